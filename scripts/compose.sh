#!/bin/sh
# The cluster of docker/compose.yaml: compose.sh up | down | logs | restart | reload
#   OBSERVE=1           with Prometheus and Grafana
#   RINGMASTER_SUBNET   the first three numbers of its network, such as 10.1.2, if the usual ones are all taken
#
# What it makes has a name and a label of its own. Anything else, whatever it is called, is neither used nor removed.
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

# The project, the cluster, the network and its label (compose.yaml, config/ringmaster.yaml).
name=ringmaster-compose
label=$name.network

compose() {
    $program --project-name "$name" --file docker/compose.yaml "$@"
}

fail() {
    echo "$1" >&2
    exit 1
}

# Fails if a container of somebody else has a name that the replicas will have by default.
names_are_free() {
    ! grep -Eq '^ *(names|naming|replicas):' docker/config/ringmaster.yaml || return 0
    for replica in Server1 Server2 Server3; do
        holder=$(docker ps --all --filter "name=^/?$replica\$" \
            --format '{{.ID}} {{.Label "ringmaster.cluster"}}')
        case "$holder" in
        '' | *" $name") ;;
        *) fail "the name $replica is held by container ${holder%% *}, which is not one of this cluster: \
rename it, or end the balancer that keeps it, or set \`names\` in docker/config/ringmaster.yaml" ;;
        esac
    done
}

network() {
    docker network ls --quiet --no-trunc --filter "name=^$name\$" "$@"
}

# Makes the network unless it is there. Without a fixed subnet, Prometheus could have no fixed address.
make_network() {
    if [ -n "$(network)" ]; then
        [ "$(network)" = "$(network --filter "label=$label")" ] ||
            fail "network $name exists, and was not made by \`make up\`: remove it (docker network rm $name), or rename it"
        return
    fi
    for subnet in ${RINGMASTER_SUBNET:-172.30.57 172.29.57 172.28.57 10.157.57 192.168.157}; do
        # Who has no address of its own gets one of the upper half.
        ! reason=$(docker network create --label "$label" --subnet "$subnet.0/24" --gateway "$subnet.1" \
            --ip-range "$subnet.128/25" "$name" 2>&1) || return 0
    done
    fail "network $name cannot be made: $reason; RINGMASTER_SUBNET=10.1.2 make up takes 10.1.2.0/24"
}

# Who is trusted: the gateway that the network really has, through which this machine reaches the containers.
find_addresses() {
    RINGMASTER_GATEWAY=$(docker network inspect --format '{{(index .IPAM.Config 0).Gateway}}' "$name")
    RINGMASTER_PROMETHEUS=${RINGMASTER_GATEWAY%.*}.2
    export RINGMASTER_GATEWAY RINGMASTER_PROMETHEUS
}

# Waits until every pool is served, at most for a minute.
ready() {
    tries=60
    until compose exec -T balancer /ringmaster healthcheck >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            compose logs --tail=20 balancer spawner >&2
            fail "the balancer is not ready; its last lines are above"
        fi
        sleep 1
    done
}

# Fails if operators on this machine are refused although the gateway is trusted.
trusted() {
    command -v curl >/dev/null 2>&1 && grep -q 'trust=.*RINGMASTER_GATEWAY' docker/compose.yaml || return 0
    status=$(curl --silent --output /dev/null --write-out '%{http_code}' "http://$(compose port balancer 5000)/rep") || true
    [ "$status" != 403 ] || fail "/rep answers 403: callers from this machine do not come from $RINGMASTER_GATEWAY, the \
gateway of network $name; add their address to admin.trust in docker/config/ringmaster.yaml, then \`make reload\`"
}

case "${1:-}" in
up)
    [ -z "${OBSERVE:-}" ] || export COMPOSE_PROFILES=observe
    names_are_free
    make_network
    find_addresses
    compose up --detach
    ready
    trusted
    echo "try: curl http://$(compose port balancer 5000)/home"
    ;;
down)
    # Of every profile, whether it is on or not.
    export COMPOSE_PROFILES=observe
    # First, as it would start again what is removed.
    compose stop balancer
    replicas=$(docker ps --all --quiet --filter "label=ringmaster.cluster=$name")
    # shellcheck disable=SC2086 # A list of ids.
    [ -z "$replicas" ] || docker rm --force $replicas >/dev/null
    compose down --volumes --remove-orphans
    # Of a balancer that was killed.
    claims=$(docker volume ls --quiet --filter "label=ringmaster.claim=$name")
    # shellcheck disable=SC2086 # A list of names.
    [ -z "$claims" ] || docker volume rm $claims >/dev/null
    for id in $(network --filter "label=$label"); do
        docker network rm "$id" >/dev/null 2>&1 || echo "network $name stays: containers of somebody else are on it" >&2
    done
    for image in ringmaster:local ringmaster-server:local; do
        ! docker image inspect "$image" >/dev/null 2>&1 || docker rmi "$image" >/dev/null 2>&1 ||
            echo "image $image stays: containers of somebody else use it" >&2
    done
    ;;
logs) compose logs --follow --tail=100 ;;
restart)
    compose restart
    ready
    ;;
reload) compose exec -T balancer /ringmaster reload ;;
*)
    echo "usage: compose.sh up | down | logs | restart | reload" >&2
    exit 2
    ;;
esac
