// The first process of every pod: it holds the pod's namespaces, reaps orphans and ends when told to.
// In C because each pod has one: a static C program needs kilobytes where a Go runtime needs megabytes.
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number) {
	(void)number;
	_exit(0);
}

static void reap(int number) {
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0) {
	}
}

int main(void) {
	const struct sigaction ends = {.sa_handler = end};
	const struct sigaction reaps = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP | SA_RESTART};
	if (sigaction(SIGINT, &ends, NULL) < 0 || sigaction(SIGTERM, &ends, NULL) < 0 || sigaction(SIGCHLD, &reaps, NULL) < 0) {
		return 1;
	}
	for (;;) {
		pause();
	}
}
