# Makes a shell script of the part of cloud-config that tests use: hostname, password, ssh_authorized_keys, write_files, bootcmd, runcmd.
# Lines that must run before the network comes up begin with `#early `. Keys that are not understood are named on the console.
function quote(text) { gsub(/'/, "'\\''", text); return "'" text "'" }
function plain(text) {
    sub(/^[ \t]+/, "", text); sub(/[ \t]+$/, "", text)
    if (text ~ /^".*"$/) { text = substr(text, 2, length(text) - 2); gsub(/\\n/, "\n", text); gsub(/\\"/, "\"", text); gsub(/\\\\/, "\\", text) }
    else if (text ~ /^'.*'$/) { text = substr(text, 2, length(text) - 2); gsub(/''/, "'", text) }
    return text
}
function indent(line) { match(line, /^ */); return RLENGTH }
# A finished item of a list: a command, or a file with what was collected of it.
function finish() {
    if (block != "") { if (key == "write_files") file[block] = text; else command = text; block = "" }
    if (key == "write_files" && "path" in file) {
        print "mkdir -p " quote(directory(file["path"]))
        print "printf %s " quote(file["content"]) " >" quote(file["path"])
        print "chmod " (("permissions" in file) ? file["permissions"] : "0644") " " quote(file["path"])
    }
    else if (command != "") print command
    command = ""; delete file
}
function directory(path) { sub(/\/[^\/]*$/, "", path); return path == "" ? "/" : path }
function list(text,    words, count, number, line) { # [a, "b c"] -> a command
    sub(/^\[/, "", text); sub(/\]$/, "", text)
    count = split(text, words, /, */)
    for (number = 1; number <= count; number++) line = line quote(plain(words[number])) " "
    return line
}
function field(line,    name, value) { # one `name: value` of a file
    name = line; sub(/:.*/, "", name); sub(/^ */, "", name)
    value = line; sub(/^[^:]*: */, "", value)
    if (value ~ /^[|>][-+]?$/) { block = name; text = ""; depth = -1; return }
    file[name] = plain(value)
}
BEGIN { print "#!/bin/sh\n. /etc/init.d/say" }
NR == 1 { next }
# The inside of a block scalar: all lines that are deeper than its beginning.
block != "" {
    if ($0 ~ /^ *$/) { text = text "\n"; next }
    if (depth < 0 && indent($0) > at) depth = indent($0)
    if (depth >= 0 && indent($0) >= depth) { text = text substr($0, depth + 1) "\n"; next }
    if (key == "write_files") file[block] = text; else command = text
    block = ""
}
/^ *(#|$)/ { next }
/^[A-Za-z_]+:/ {
    finish()
    key = $0; sub(/:.*/, "", key)
    value = $0; sub(/^[^:]*: */, "", value); value = plain(value)
    if (key == "hostname") print "#early echo " quote(value) " >/etc/hostname"
    else if (key == "password") print "printf 'root:%s\\ndebian:%s\\n' " quote(value) " " quote(value) " | chpasswd"
    else if (key !~ /^(ssh_authorized_keys|write_files|bootcmd|runcmd)$/) print "say " quote("user data: " key " has no effect here")
    next
}
key == "ssh_authorized_keys" { sub(/^ *- */, ""); print "#early echo " quote(plain($0)) " | /etc/init.d/authorize"; next }
key == "bootcmd" || key == "runcmd" {
    finish()
    at = indent($0)
    sub(/^ *- */, "")
    if ($0 ~ /^[|>][-+]?$/) { block = "command"; text = ""; depth = -1 }
    else if ($0 ~ /^\[/) command = list($0)
    else command = plain($0)
    next
}
key == "write_files" {
    if ($0 ~ /^ *- /) { finish(); sub(/- /, "  ") }
    at = indent($0)
    field($0)
}
END { finish() }
