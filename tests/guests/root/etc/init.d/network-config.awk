# Reads network-config version 2 as far as tests use it: ethernets with dhcp4, addresses, gateway4, nameservers.
function clean(text) { gsub(/[]["',]/, " ", text); return text }
function each(what, text,    words, count, number) {
    count = split(clean(text), words, " ")
    for (number = 1; number <= count; number++) print link, what, words[number]
}
/^ *(#|$)/ || /^version:/ || /^ *ethernets:/ { next }
{ match($0, /^ */); depth = RLENGTH }
/^ *[A-Za-z0-9]+: *$/ && $1 !~ /^(addresses|nameservers|network|match):$/ { link = $1; sub(/:/, "", link); what = ""; next }
/nameservers:/ { below = depth; inside = 1; next }
/addresses:/ { what = (inside && depth > below) ? "nameserver" : "address"; sub(/^[^:]*:/, ""); each(what, $0); next }
/gateway4:/ { print link, "gateway", clean($2); next }
/dhcp4: *(true|yes)/ { print link, "dhcp"; next }
/^ *- / && what != "" { each(what, $2) }
