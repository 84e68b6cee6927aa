#!/bin/sh
# Watch the load of machines with curl and jq. On each machine (Linux): load.sh publish. Anywhere:
# load.sh read. It shows that a shell is enough: a POST publishes, and a GET of /events does not end.
set -eu
server=http://localhost:8080

create() { # a topic that lasts without subscribers; if it exists, the answer is 409
    curl -sS -o /dev/null -d '{"name":"load"}' "$server/topics" || true
}

publish() {
    create
    while read -r load _ </proc/loadavg; do
        jq -cn --arg host "$(uname -n)" --argjson load "$load" \
            '{topic: "load", payload: {host: $host, load: $load}}' |
            curl -sS --fail-with-body -w '\n' -d @- "$server/publish" || create
        sleep 1
    done
}

watch() {
    curl -sSN "$server/events?topic=load&last_n=5" | jq -Rr --unbuffered '
        select(startswith("data: "))[6:] | fromjson | select(.type == "event")
        | "\(.ts)  \(.message.payload.host)  \(.message.payload.load)"'
}

case "${1:-}" in
publish) publish ;;
read) watch ;;
*) echo "usage: $0 publish | read" >&2 && exit 2 ;;
esac
