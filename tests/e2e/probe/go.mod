module pilvi.dev/probe

go 1.26
