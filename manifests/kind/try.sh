#!/bin/sh
# Asks the demo on kind by each way that leads in, and says what came; a minute at most for each.
set -u

want() { # What it is, what has to come, and the command.
  name=$1 expected=$2
  shift 2
  left=60
  while :; do
    said=$("$@" 2>&1) && case $said in *"$expected"*) break ;; esac
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "$name: $said" >&2; exit 1; }
    sleep 1
  done
  echo "$name: $said"
}

echo_tcp() { printf 'hello\n' | nc -w 2 127.0.0.1 9000; }

want HTTP "sent by 5000" curl -sS --max-time 5 http://127.0.0.1:8080/
want HTTP "sent by 5001" curl -sS --max-time 5 http://127.0.0.1:8080/
want HTTP "Hello from behind Portway" curl -sS --max-time 5 http://127.0.0.1:8080/message
want HTTPS "Hello from behind Portway" curl -ksS --max-time 5 https://127.0.0.1:8443/message
want TCP "hello" echo_tcp
