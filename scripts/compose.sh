#!/bin/sh
# The cluster of docker/compose.yaml: compose.sh up | down | logs | restart
#   OBSERVE=1  with Prometheus and Grafana
set -eu

cd "$(dirname "$0")/.."
scripts/engine.sh
if docker compose version >/dev/null 2>&1; then
    program="docker compose"
elif command -v docker-compose >/dev/null 2>&1; then
    program="docker-compose"
else
    echo "neither \`docker compose\` nor docker-compose is installed" >&2
    exit 1
fi

compose() {
    $program --project-name ringmaster --file docker/compose.yaml "$@"
}

# Waits until every pool is served, at most for a minute.
ready() {
    tries=60
    until compose exec -T balancer /ringmaster healthcheck >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            compose logs --tail=20 balancer spawner >&2
            echo "the balancer is not ready; its last lines are above" >&2
            exit 1
        fi
        sleep 1
    done
}

case "${1:-}" in
up)
    [ -z "${OBSERVE:-}" ] || export COMPOSE_PROFILES=observe
    compose up --detach
    ready
    echo "try: curl http://$(compose port balancer 5000)/home"
    ;;
down)
    # Of every profile, whether it is on or not.
    export COMPOSE_PROFILES=observe
    # First, as it would start again what is removed.
    compose stop balancer
    replicas=$(docker ps --all --quiet --filter label=ringmaster.cluster=compose)
    # shellcheck disable=SC2086 # A list of ids.
    [ -z "$replicas" ] || docker rm --force $replicas >/dev/null
    compose down --volumes --remove-orphans
    for image in ringmaster:local ringmaster-server:local; do
        ! docker image inspect "$image" >/dev/null 2>&1 || docker rmi "$image" >/dev/null
    done
    ;;
logs) compose logs --follow --tail=100 ;;
restart)
    compose restart
    ready
    ;;
*)
    echo "usage: compose.sh up | down | logs | restart" >&2
    exit 2
    ;;
esac
