//! What is refused, and in which words.

use ringmaster_fleet::{Algorithm, Hashes, Probing};

use super::faults;

/// A file, and the one line that says what is wrong with it.
const REFUSED: &[(&str, &str)] = &[
    // The file as a whole.
    ("a: b: c", "not YAML: mapping values are not allowed in this context at line 1 column 5"),
    (
        "listen: [",
        "not YAML: did not find expected node content at line 2 column 1, while parsing a flow node",
    ),
    ("threads: 1\nthreads: 2", "not YAML: duplicate entry with key \"threads\""),
    (
        "admin: {listen: a, listen: b}",
        "not YAML: admin: duplicate entry with key \"listen\" at line 1 column 8",
    ),
    (
        "a\n---\nb",
        "not YAML: deserializing from YAML containing more than one document is not supported",
    ),
    ("[]", "a list: not a mapping"),
    ("text", "\"text\": not a mapping"),
    // Unknown keys.
    ("lisen: 0.0.0.0:1", "lisen: unknown key; did you mean 'listen'?"),
    ("admin: {lisen: 0.0.0.0:1}", "admin.lisen: unknown key; did you mean 'listen'?"),
    (
        "admin: {port: 1}",
        "admin.port: unknown key; keys are: listen, trust, reserved_paths, tokens_file, lockout, header_timeout_ms, connections_max",
    ),
    (
        "1: 2",
        "1: unknown key; keys are: listen, threads, grace_period_ms, upgrade_grace_period_ms, state_file, watch_config, access_log, explain_header, trusted_proxies, cluster, admin, tls, client, pools, routes",
    ),
    (
        "admin: {[a]: b}",
        "admin.a list: unknown key; keys are: listen, trust, reserved_paths, tokens_file, lockout, header_timeout_ms, connections_max",
    ),
    (
        "admin: {\"a\\nb\": 1}",
        "admin.\"a\\nb\": unknown key; keys are: listen, trust, reserved_paths, tokens_file, lockout, header_timeout_ms, connections_max",
    ),
    ("routes: [{hosts: a}]", "routes[0].hosts: unknown key; did you mean 'host'?"),
    (
        "pools: {a: {heartbeat: {timeout: 1}}}",
        "pools.a.heartbeat.timeout: unknown key; did you mean 'timeout_ms'?",
    ),
    // Types.
    ("threads: two", "threads: \"two\": not a whole number from 0 to 1024"),
    ("threads: [2]", "threads: a list: not a whole number from 0 to 1024"),
    ("threads: 2.0", "threads: 2.0: not a whole number from 0 to 1024"),
    ("threads: \"2\"", "threads: \"2\": not a whole number from 0 to 1024"),
    ("threads: !env 2", "threads: \"!env\": not a whole number from 0 to 1024"),
    ("access_log: yes", "access_log: \"yes\": not true or false"),
    (
        "listen: 5000",
        "listen: 5000: not an address; use HOST:PORT with a numeric host, such as 127.0.0.1:5000",
    ),
    ("admin: 1", "admin: 1: not a mapping"),
    ("trusted_proxies: 10.0.0.0/8", "trusted_proxies: \"10.0.0.0/8\": not a list"),
    ("pools: [a]", "pools: a list: not a mapping"),
    ("pools: {a: b}", "pools.a: \"b\": not a mapping"),
    ("routes: {pool: a}", "routes: a mapping: not a list"),
    ("routes: [a]", "routes[0]: \"a\": not a mapping"),
    // Ranges.
    ("threads: 1025", "threads: 1025: not a whole number from 0 to 1024"),
    ("threads: -1", "threads: -1: not a whole number from 0 to 1024"),
    ("grace_period_ms: 0", "grace_period_ms: 0: not a whole number from 1 to 86400000"),
    (
        "grace_period_ms: 86400001",
        "grace_period_ms: 86400001: not a whole number from 1 to 86400000",
    ),
    (
        "client: {header_timeout_ms: 0}",
        "client.header_timeout_ms: 0: not a whole number from 1 to 86400000",
    ),
    (
        "admin: {lockout: {failures: 1001}}",
        "admin.lockout.failures: 1001: not a whole number from 0 to 1000",
    ),
    (
        "admin: {lockout: {window_ms: 0}}",
        "admin.lockout.window_ms: 0: not a whole number from 1 to 86400000",
    ),
    (
        "admin: {lockout: {duration_ms: 1.5}}",
        "admin.lockout.duration_ms: 1.5: not a whole number from 1 to 86400000",
    ),
    (
        "admin: {header_timeout_ms: 0}",
        "admin.header_timeout_ms: 0: not a whole number from 1 to 86400000",
    ),
    ("admin: {connections_max: 0}", "admin.connections_max: 0: not a whole number from 1 to 65536"),
    ("client: {uri_bytes_max: 0}", "client.uri_bytes_max: 0: not a whole number from 1 to 1048575"),
    (
        "client: {header_bytes_max: 2000000}",
        "client.header_bytes_max: 2000000: not a whole number from 1 to 1048575",
    ),
    ("client: {headers_max: 257}", "client.headers_max: 257: not a whole number from 1 to 256"),
    (
        "client: {keepalive_min_timeout_ms: -1}",
        "client.keepalive_min_timeout_ms: -1: not a whole number from 0 to 86400000",
    ),
    (
        "client: {body_bytes_per_second_min: 1048577}",
        "client.body_bytes_per_second_min: 1048577: not a whole number from 0 to 1048576",
    ),
    (
        "client: {requests_per_connection_max: 0}",
        "client.requests_per_connection_max: 0: not a whole number from 1 to 4294967295",
    ),
    (
        "client: {connections_max: 0}",
        "client.connections_max: 0: not a whole number from 1 to 1000000",
    ),
    (
        "client: {connections_per_client_max: 1000001}",
        "client.connections_per_client_max: 1000001: not a whole number from 1 to 1000000",
    ),
    (
        "pools: {a: {requests_max: 0}}",
        "pools.a.requests_max: 0: not a whole number from 1 to 1000000",
    ),
    (
        "pools: {a: {hold: {bytes_max: 0}}}",
        "pools.a.hold.bytes_max: 0: not a whole number from 1 to 1073741824",
    ),
    (
        "pools: {a: {ejection: {connect_failures: 1000001}}}",
        "pools.a.ejection.connect_failures: 1000001: not a whole number from 0 to 1000000",
    ),
    (
        "pools: {a: {ejection: {server_error_percent: 101}}}",
        "pools.a.ejection.server_error_percent: 101: not a whole number from 0 to 100",
    ),
    (
        "pools: {a: {ejection: {answers: 0}}}",
        "pools.a.ejection.answers: 0: not a whole number from 1 to 1000000",
    ),
    (
        "pools: {a: {ejection: {max_percent: 101}}}",
        "pools.a.ejection.max_percent: 101: not a whole number from 0 to 100",
    ),
    (
        "pools: {a: {ejection: {when_all: closed}}}",
        "pools.a.ejection.when_all: \"closed\": not one of open, refuse",
    ),
    (
        "pools: {a: {ejection: {base_ms: 60001}}}",
        "pools.a.ejection.base_ms: 60001 is more than ejection.max_ms (60000)",
    ),
    (
        "pools: {a: {upstream: {in_flight_max: 0}}}",
        "pools.a.upstream.in_flight_max: 0: not a whole number from 1 to 1000000",
    ),
    (
        "pools: {a: {upstream: {retry_budget_percent: 101}}}",
        "pools.a.upstream.retry_budget_percent: 101: not a whole number from 0 to 100",
    ),
    (
        "pools: {a: {upstream: {retry_budget_min: -1}}}",
        "pools.a.upstream.retry_budget_min: -1: not a whole number from 0 to 1000000",
    ),
    (
        "client: {body_bytes_max: 0}",
        "client.body_bytes_max: 0: not a whole number from 1 to 1099511627776",
    ),
    (
        "pools: {a: {replicas: 65536}}",
        "pools.a.replicas: 65536: not a whole number from 0 to 65535",
    ),
    (
        "pools: {a: {replicas_max: 0}}",
        "pools.a.replicas_max: 0: not a whole number from 1 to 65535",
    ),
    ("pools: {a: {slots: 0}}", "pools.a.slots: 0: not a whole number from 1 to 16777216"),
    (
        "pools: {a: {slow_start_ms: 1e9}}",
        "pools.a.slow_start_ms: 1000000000.0: not a whole number from 0 to 86400000",
    ),
    (
        "pools: {a: {heartbeat: {missed_max: 0}}}",
        "pools.a.heartbeat.missed_max: 0: not a whole number from 1 to 1000",
    ),
    (
        "pools: {a: {bounded_load: {factor: 0.5}}}",
        "pools.a.bounded_load.factor: 0.5: not 0 (off) or a number from 1 to 100",
    ),
    (
        "pools: {a: {bounded_load: {factor: .nan}}}",
        "pools.a.bounded_load.factor: .nan: not 0 (off) or a number from 1 to 100",
    ),
    (
        "pools: {a: {bounded_load: {floor: 0}}}",
        "pools.a.bounded_load.floor: 0: not a whole number from 1 to 1000000",
    ),
    (
        "pools: {a: {hold: {requests_max: 0}}}",
        "pools.a.hold.requests_max: 0: not a whole number from 1 to 1000000",
    ),
    (
        "pools: {a: {upstream: {attempts_max: 9}}}",
        "pools.a.upstream.attempts_max: 9: not a whole number from 1 to 8",
    ),
    // Words and texts.
    (
        "listen: 0.0.0.0",
        "listen: \"0.0.0.0\": not an address; use HOST:PORT with a numeric host, such as 127.0.0.1:5000",
    ),
    (
        "listen: localhost:5000",
        "listen: \"localhost:5000\": not an address; use HOST:PORT with a numeric host, such as 127.0.0.1:5000",
    ),
    (
        "admin: {trust: [10.0.0.0/8, 10.0.0.1]}",
        "admin.trust[1]: \"10.0.0.1\": not a network; use ADDRESS/BITS, such as 10.0.0.0/8",
    ),
    (
        "trusted_proxies: [null]",
        "trusted_proxies[0]: null: not a network; use ADDRESS/BITS, such as 10.0.0.0/8",
    ),
    (
        "admin: {reserved_paths: [/home]}",
        "admin.reserved_paths[0]: \"/home\": not one of /rep, /add, /rm, /metrics",
    ),
    ("admin: {tokens_file: \"\"}", "admin.tokens_file: \"\": not the path of a file"),
    (
        "routes: [{host: \"a:80\"}]",
        "routes[0].host: \"a:80\": not a host; use a name or an address without a port, such as example.com or [::1]",
    ),
    (
        "routes: [{path_prefix: api}]",
        "routes[0].path_prefix: \"api\": not a path; it starts with '/', and is written as in a request, without a query",
    ),
    (
        "pools: {a: {provider: vm}}",
        "pools.a.provider: \"vm\": not one of process, docker, swarm, fixed",
    ),
    (
        "cluster: \"a b\"",
        "cluster: \"a b\": not a name; use up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    ),
    ("pools: {a: {naming: guid}}", "pools.a.naming: \"guid\": not one of sequential, random, uuid"),
    ("pools: {a: {respawn_name: new}}", "pools.a.respawn_name: \"new\": not one of keep, fresh"),
    (
        "pools: {a: {algorithm: Ring}}",
        "pools.a.algorithm: \"Ring\": not one of rendezvous, ring, maglev, round_robin, least_requests",
    ),
    (
        "pools: {a: {algorithm: ring, hashes: md5}}",
        "pools.a.hashes: \"md5\": not one of classic, modular, xxh3",
    ),
    (
        "pools: {a: {algorithm: ring, probing: 2}}",
        "pools.a.probing: 2: not one of linear, quadratic",
    ),
    (
        "pools: {a: {key: \"header:\"}}",
        "pools.a.key: \"header:\": not a source of keys; use request_id, client_ip, path, header:NAME, cookie:NAME or query:NAME",
    ),
    (
        "pools: {a: {heartbeat: {path: \"/a?b\"}}}",
        "pools.a.heartbeat.path: \"/a?b\": not a path; it starts with '/', and is written as in a request, without a query",
    ),
    (
        "pools: {a b: {}}",
        "pools: \"a b\": not a name; use up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    ),
    (
        "pools: {a: {names: [1]}}",
        "pools.a.names[0]: 1: not a replica; use NAME or NAME:PORT, such as Server1, and in NAME up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:0\"}}}",
        "pools.a.fixed.b: \"127.0.0.1:0\": not the address of a replica; use HOST:PORT with a numeric host and a port from 1 to 65535",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {-b: \"127.0.0.1:1\"}}}",
        "pools.a.fixed: \"-b\": not a name; use up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: \"a b\"}}}",
        "pools.a.docker.image: \"a b\": not an image; use NAME, NAME:TAG or NAME@DIGEST, such as nginx:1.29",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, command: [serve, 80]}}}",
        "pools.a.docker.command[1]: 80: not a text; put quotes around numbers, true and false",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, environment: {C: 1}}}}",
        "pools.a.docker.environment.C: 1: not a text; put quotes around numbers, true and false",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, environment: {\"C=D\": x}}}}",
        "pools.a.docker.environment: \"C=D\": not the name of an environment variable; use letters, digits and '_', the first not a digit",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, network: -c}}}",
        "pools.a.docker.network: \"-c\": not a name; use up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, port: 0}}}",
        "pools.a.docker.port: 0: not a whole number from 1 to 65535",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, memory_mb: 5}}}",
        "pools.a.docker.memory_mb: 5: not a whole number from 6 to 1048576",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, cpu_millis: 9}}}",
        "pools.a.docker.cpu_millis: 9: not a whole number from 10 to 1024000",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, pids: 0}}}",
        "pools.a.docker.pids: 0: not a whole number from 1 to 4194304",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, read_only: maybe}}}",
        "pools.a.docker.read_only: \"maybe\": not true or false",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, socket: \"\"}}}",
        "pools.a.docker.socket: \"\": not the path of a file",
    ),
    // Relations.
    ("pools: {a: {docker: {image: b}}}", "pools.a.docker: only for providers docker and swarm"),
    ("pools: {a: {provider: docker}}", "pools.a.docker.image: missing; provider docker needs one"),
    (
        "pools: {a: {provider: docker, docker: {image: b}, names: [ab, 'A:80']}}",
        "pools.a.names: bad name \"A\": the name of a container has at least 2 characters",
    ),
    (
        "pools: {a: {provider: swarm, docker: {image: b}, names: [a.b]}}",
        "pools.a.names: bad name \"a.b\": the name of a Swarm service consists of letters, digits, '_' and '-', the last a letter or digit",
    ),
    (
        "pools: {a: {provider: swarm, docker: {image: b}, names: [ab, AB]}}",
        "pools.a.names: bad name \"AB\": a Swarm does not tell it from \"ab\", as case does not matter there",
    ),
    ("pools: {a: {provider: swarm}}", "pools.a.docker.image: missing; provider swarm needs one"),
    (
        "pools: {a: {provider: swarm, docker: {image: b, spawner: /c}}}",
        "pools.a.docker.spawner: not for provider swarm, which speaks to a manager's engine itself",
    ),
    (
        "pools: {a: {provider: swarm, docker: {image: b}, respawn_name: fresh}}",
        "pools.a.respawn_name: fresh: not for provider swarm, where other balancers keep the same names",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b}, fixed: {c: \"127.0.0.1:1\"}}}",
        "pools.a.fixed: only for provider fixed",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, socket: /c, spawner: /d}}}",
        "pools.a.docker.spawner: not together with socket, which the spawner has instead",
    ),
    ("listen: 127.0.0.1:5001", "admin.listen: 127.0.0.1:5001 is where clients are served (listen)"),
    (
        "client: {uri_bytes_max: 40000}",
        "client.header_bytes_max: 32768 is less than uri_bytes_max (40000), which it includes",
    ),
    (
        "pools: {a: {heartbeat: {host: 'a b'}}}",
        "pools.a.heartbeat.host: \"a b\": not a host; use a name or an address, with or without a port, such as example.com or [::1]:8080",
    ),
    (
        "pools: {a: {heartbeat: {headers: {Host: a}}}}",
        "pools.a.heartbeat.headers: \"Host\": not a header that can be set; Host has the key `host`, and Connection, Content-Length, Expect, Keep-Alive, TE, Trailer, Transfer-Encoding and Upgrade are the balancer's own",
    ),
    (
        "pools: {a: {heartbeat: {headers: {X-A: 1}}}}",
        "pools.a.heartbeat.headers.X-A: 1: not a text; put quotes around numbers, true and false",
    ),
    (
        "pools: {a: {heartbeat: {headers: {X-A: \"secret\\r\\nX-B: 1\"}}}}",
        "pools.a.heartbeat.headers: x-a: not the value of a header; use printable ASCII without spaces at its ends",
    ),
    (
        "pools: {a: {heartbeat: {headers: {X-A: b, x-a: c}}}}",
        "pools.a.heartbeat.headers: x-a: there more than once; the case of names does not matter",
    ),
    ("pools: {a: {heartbeat: {statuses: 200}}}", "pools.a.heartbeat.statuses: 200: not a list"),
    (
        "pools: {a: {heartbeat: {statuses: []}}}",
        "pools.a.heartbeat.statuses: no status; name at least one, such as 200-299",
    ),
    (
        "pools: {a: {heartbeat: {statuses: [200, 2xx]}}}",
        "pools.a.heartbeat.statuses[1]: \"2xx\": not a status or a range of statuses; use numbers from 200 to 599, such as 301 or 200-299",
    ),
    (
        "pools: {a: {heartbeat: {statuses: [101]}}}",
        "pools.a.heartbeat.statuses[0]: \"101\": not a status or a range of statuses; use numbers from 200 to 599, such as 301 or 200-299",
    ),
    (
        "pools: {a: {heartbeat: {timeout_ms: 500}}}",
        "pools.a.heartbeat.timeout_ms: 500 is not less than heartbeat.interval_ms (500)",
    ),
    ("pools: {a: {server_id: x}}", "pools.a.server_id: \"x\": not one of number, name"),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:1\"}, server_id: name}}",
        "pools.a.server_id: not for provider fixed, whose replicas are started by somebody else",
    ),
    (
        "pools: {a: {provider: docker, docker: {image: b, environment: {SERVER_ID: x}}, server_id: name}}",
        "pools.a.server_id: not together with docker.environment.SERVER_ID, which says it, too",
    ),
    (
        "pools: {a: {backoff: {healthy_after_ms: 0}}}",
        "pools.a.backoff.healthy_after_ms: 0: not a whole number from 1 to 86400000",
    ),
    (
        "pools: {a: {backoff: {max_ms: 100}}}",
        "pools.a.backoff.min_ms: 200 is more than backoff.max_ms (100)",
    ),
    (
        "pools: {a: {replicas: 9, replicas_max: 8}}",
        "pools.a.replicas: 9 is more than replicas_max (8)",
    ),
    ("pools: {a: {names: [b, c, d, e]}}", "pools.a.names: 4 names are more than replicas (3)"),
    ("pools: {a: {names: [b, \"b:80\", c]}}", "pools.a.names: b: there more than once"),
    (
        "pools: {a: {slots: 512, virtual_nodes: 9}}",
        "pools.a.virtual_nodes: not for algorithm rendezvous",
    ),
    ("pools: {a: {algorithm: maglev, hashes: xxh3}}", "pools.a.hashes: not for algorithm maglev"),
    ("pools: {a: {probing: linear}}", "pools.a.probing: not for algorithm rendezvous"),
    (
        "pools: {a: {algorithm: round_robin, slots: 512}}",
        "pools.a.slots: not for algorithm round_robin",
    ),
    ("pools: {a: {fixed: {b: \"127.0.0.1:1\"}}}", "pools.a.fixed: only for provider fixed"),
    (
        "pools: {a: {provider: fixed}}",
        "pools.a.fixed: no address; provider fixed needs at least one",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:1\"}, replicas: 2}}",
        "pools.a.replicas: 2 is more than the addresses in fixed (1)",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:1\"}, names: [c]}}",
        "pools.a.names: c: not in fixed",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:1\", c: \"127.0.0.1:1\"}}}",
        "pools.a.fixed: 127.0.0.1:1: there more than once",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:5000\"}}}",
        "pools.a.fixed.b: 127.0.0.1:5000 is this balancer itself (listen: 0.0.0.0:5000); use the address of a replica",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"0.0.0.0:5001\"}}}",
        "pools.a.fixed.b: 0.0.0.0:5001 is this balancer itself (admin.listen: 127.0.0.1:5001); use the address of a replica",
    ),
    (
        "tls: {listen: \"[::]:443\", certificates: [{certificate: c, key: k}]}\npools: {a: {provider: fixed, fixed: {b: \"[::1]:443\"}}}",
        "pools.a.fixed.b: [::1]:443 is this balancer itself (tls.listen: [::]:443); use the address of a replica",
    ),
    (
        "client: {underscores_in_headers: keep}",
        "client.underscores_in_headers: \"keep\": not one of drop, pass, refuse",
    ),
    (
        "pools: {a: {key: \"header:X_User\"}}",
        "pools.a.key: header:x_user has an underscore; it needs client.underscores_in_headers: pass",
    ),
    (
        "routes: [{host: a.example}, {host: A.example., path_prefix: /x}]",
        "routes[1]: never reached; routes[0] comes first and takes its requests",
    ),
    (
        "routes: [{host: \"[::1]\"}, {host: \"[0:0::1]\"}]",
        "routes[1]: never reached; routes[0] comes first and takes its requests",
    ),
    (
        "pools: {a: {provider: fixed, fixed: {b: \"127.0.0.1:1\"}, respawn_name: fresh}}",
        "pools.a.respawn_name: fresh: not for provider fixed, where names belong to addresses",
    ),
    ("pools: {}", "pools: no pool; at least one is needed"),
    ("pools: {a: , b: }", "routes: missing; say which requests go to which of the pools a, b"),
    ("routes: []", "routes: no route; at least one is needed"),
    (
        "tls: { listen: 127.0.0.1:5443 }",
        "tls.certificates: no certificate; tls.listen needs at least one",
    ),
    (
        "tls: { certificates: [{ certificate: a.pem }] }",
        "tls.certificates[0].key: missing; name a PEM file",
    ),
    (
        "tls: { listen: 127.0.0.2:5001, certificates: [{ certificate: c, key: k }] }",
        "tls.listen: port 5001 is that of admin.listen; choose another",
    ),
    (
        "client: { http2: { streams_max: 0 } }",
        "client.http2.streams_max: 0: not a whole number from 1 to 10000",
    ),
    ("routes: [{}, {pool: web}]", "routes[1].pool: \"web\" is not a pool; pools are: default"),
    ("pools: {a: , b: }\nroutes: [{}]", "routes[0].pool: missing; pools are: a, b"),
    (
        "routes: [{path_prefix: /a}, {path_prefix: /a/}]",
        "routes[1]: never reached; routes[0] comes first and takes its requests",
    ),
    (
        "routes: [{host: a.b}, {path_prefix: /c}, {host: A.B, path_prefix: /x}]",
        "routes[2]: never reached; routes[0] comes first and takes its requests",
    ),
    (
        "routes: [{}, {host: a}]",
        "routes[1]: never reached; routes[0] comes first and takes its requests",
    ),
];

#[test]
fn each_fault_is_one_line_with_key_value_and_rule() {
    for (file, expected) in REFUSED {
        assert_eq!(faults(file), [*expected], "{file}");
    }
}

#[test]
fn what_no_table_can_be_built_for_is_refused_in_the_words_of_the_fleet() {
    let ring = |slots| Algorithm::Ring {
        slots,
        virtual_nodes: 9,
        hashes: Hashes::Xxh3,
        probing: Probing::Linear,
    };
    for (keys, algorithm, replicas) in [
        ("slots: 2", Algorithm::Rendezvous { slots: 2 }, 3),
        ("algorithm: ring, slots: 8", ring(8), 3),
        ("algorithm: ring, slots: 26", ring(26), 3),
        ("algorithm: ring, replicas: 57", ring(512), 57),
        ("algorithm: maglev, slots: 65536", Algorithm::Maglev { slots: 65_536 }, 3),
        ("algorithm: maglev, slots: 2", Algorithm::Maglev { slots: 2 }, 3),
    ] {
        let reason = algorithm.check(replicas).unwrap_err();
        let expected = format!("pools.a.algorithm: {}: {reason}", algorithm.name());
        assert_eq!(faults(&format!("pools: {{a: {{{keys}}}}}")), [expected]);
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let file = r#"
listen: 0.0.0.0
threads: many
acces_log: true
admin: { trust: [10.0.0.0/33, 10.0.0.0/8] }
client: { uri_bytes_max: 10000, header_bytes_max: 9999 }
pools:
  a: { heartbeat: { interval_ms: 100, timeout_ms: 200 }, key: header }
  b: { slots: 0 }
routes: [ { pool: c }, { pool: a }, { pool: 1 } ]
"#;
    let expected = [
        "listen: \"0.0.0.0\": not an address; use HOST:PORT with a numeric host, such as 127.0.0.1:5000",
        "threads: \"many\": not a whole number from 0 to 1024",
        "admin.trust[0]: \"10.0.0.0/33\": not a network; use ADDRESS/BITS, such as 10.0.0.0/8",
        "client.header_bytes_max: 9999 is less than uri_bytes_max (10000), which it includes",
        "pools.a.heartbeat.timeout_ms: 200 is not less than heartbeat.interval_ms (100)",
        "pools.a.key: \"header\": not a source of keys; use request_id, client_ip, path, header:NAME, cookie:NAME or query:NAME",
        "pools.b.slots: 0: not a whole number from 1 to 16777216",
        "routes[0].pool: \"c\" is not a pool; pools are: a, b",
        "routes[2].pool: 1: not a name; use up to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
        "acces_log: unknown key; did you mean 'access_log'?",
    ];
    assert_eq!(faults(file), expected);
}

#[test]
fn one_mistake_is_one_fault() {
    // A default stands in for each bad value, and breaks a rule with the good ones.
    for file in [
        "pools: {a: {heartbeat: {interval_ms: 100, timeout_ms: x}}}",
        "pools: {a: {heartbeat: {interval_ms: x, timeout_ms: 600}}}",
        "pools: {a: {replicas: x, names: [b, c, d, e]}}",
        "pools: {a: {provider: x, fixed: {b: \"127.0.0.1:1\"}}}",
        "pools: {a: {provider: x, docker: {image: b}}}",
        "pools: {a: {provider: docker, docker: {image: \"-\"}}}",
        "pools: {a: {provider: docker, docker: x}}",
        "pools: {a: {provider: fixed, fixed: {b: x}, names: [b], replicas: 1}}",
        "pools: {a: {algorithm: x, virtual_nodes: 5}}",
        "pools: {a: {algorithm: ring, virtual_nodes: 600, slots: x}}",
        "pools: {}\nroutes: [{pool: a}]",
        "routes: [{path_prefix: x}, {}]",
        "routes: [x, {}]",
        "routes: x",
        "pools: x\nroutes: [{pool: a}]",
    ] {
        assert_eq!(faults(file).len(), 1, "{file}");
    }
}

#[test]
fn a_fault_does_not_repeat_a_megabyte() {
    let long = "x".repeat(1 << 20);
    for file in [
        format!("listen: {long}"),
        long.clone(),
        format!("admin: {{? {long} : 1}}"),
        format!("listen: !{long} 1"),
        format!("pools: {{? {long} : }}"),
        format!("routes: [{{pool: {long}}}]"),
        format!("threads: {}", "9".repeat(1 << 20)),
        format!("a: *{long}"),
    ] {
        let lines = faults(&file);
        assert!(lines.iter().all(|line| line.len() < 600), "{:?}", &file[..30]);
    }
}
