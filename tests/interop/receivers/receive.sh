#!/bin/bash
# Receives one of bellpull's events on standard input and answers on standard output, with openssl and jq: as inetd runs it, or
#     socat TCP-LISTEN:9000,bind=127.0.0.1,fork,reuseaddr EXEC:./receive.sh
# with SECRET (whsec_...) and STATE, a directory, in the environment. `receive.sh <request.txt` verifies a request that was kept.
set -euo pipefail

declare -A header=()
while IFS= read -r line && line=${line%$'\r'} && [[ -n $line ]]; do
    name=${line%%:*} value=${line#*:}
    header[${name,,}]=${value# }
done
answer() {
    printf 'HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1"
    exit
}
length=${header[content-length]:-2000000} # a kept request may be without it: all that follows
[[ $length =~ ^[0-9]{1,7}$ ]] || answer '413 Content Too Large'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c "$length" >"$work/body"

id=${header[webhook-id]:-} timestamp=${header[webhook-timestamp]:-}
[[ $timestamp =~ ^[1-9][0-9]{0,11}$ ]] || answer '401 Unauthorized'
age=$(($(date +%s) - timestamp))
((age <= 300 && age >= -300)) || answer '401 Unauthorized'
key=$(openssl base64 -d -A <<<"${SECRET#whsec_}" | od -An -vtx1 | tr -d ' \n')
content() { printf '%s.%s.' "$id" "$timestamp" && cat "$work/body"; }
signature=$(content | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A)
# There is one token for each secret, with a space between them.
[[ " ${header[webhook-signature]:-} " == *" v1,$signature "* ]] || answer '401 Unauthorized'

jq -e '.type | startswith("bellpull.")' "$work/body" >/dev/null && answer '204 No Content'
# A file for each record, with the last sequence. Keep it where your data is, and change both together.
last=$STATE/$(jq -c '.data | [.stream, .bridge, .key]' "$work/body" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
sequence=$(jq -r .data.sequence "$work/body")
if ((sequence > $(cat "$last" 2>/dev/null || echo 0))); then
    jq -r '"\(.type) \(.data.key) \(.data.sequence)"' "$work/body" >&2 # apply it here
    echo "$sequence" >"$last"
fi
answer '204 No Content'
