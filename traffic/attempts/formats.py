"""The two logs that Envoy writes for us, one JSON object a line: their names and fields.

`attempts.log` has a line per upstream attempt (the router filter's `upstream_log`), `access.log` a line per request
(the HTTP connection manager's `access_log`). Metadata stands under the filter name "convoy": on clusters {model,
revision, region}, on endpoints {revision, region}, both with the full digest; a shadow's clusters also say
{traffic: shadow}.

A mirrored request's attempt is logged like any other, its answer's headers included, but knows no connection (0), no
remote address and no route; its request id is the caller's. It is logged at its own end, whoever left meanwhile.

The router's `upstream_log_options.flush_upstream_log_on_upstream_stream` stays off: with it Envoy 1.40 writes a
second line per attempt, with code 0 and no flag. Without it each attempt is logged at its own end.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

ACCESS_LOG: Final = "access.log"
ATTEMPTS_LOG: Final = "attempts.log"
METADATA: Final = "convoy"

ENVOY_LOG_FLAGS: Final = ("--file-flush-interval-msec", "100")
"""Envoy's own default holds a line back for up to ten seconds."""

ANSWER_HEADER: Final = "x-convoy-answer"
"""`<score>;<mark>` of a successful answer, set by the serving process (bentos/service/answered.py); no caller sees it."""

PAIR_HEADER: Final = "x-convoy-pair"
"""What a route that mirrors adds to its requests, to join the shadow's attempt with the live one."""
PAIR_VALUE: Final = "%CONNECTION_ID%-%START_TIME(%s%9f)%"
"""The caller's connection and the time to the last digit: no caller can choose it, as it can a request id."""

# A request id is the client's to choose: it is cut, and joined only together with the connection it came over.
_SHARED: Final = {
    "id": "%REQ(X-REQUEST-ID):128%",
    "connection": "%CONNECTION_ID%",
    "start_ms": "%START_TIME(%s%3f)%",
    "duration_ms": "%DURATION%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "caller": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "cluster_model": f"%CLUSTER_METADATA({METADATA}:model)%",
    "cluster_revision": f"%CLUSTER_METADATA({METADATA}:revision)%",
    "cluster_region": f"%CLUSTER_METADATA({METADATA}:region)%",
    "traffic": f"%CLUSTER_METADATA({METADATA}:traffic)%",
    "host": "%UPSTREAM_HOST%",
    "host_revision": f"%UPSTREAM_METADATA({METADATA}:revision)%",
    "host_region": f"%UPSTREAM_METADATA({METADATA}:region)%",
}

ROUTER_LOG_FORMAT: Final = MappingProxyType(
    {
        **_SHARED,
        # An attempt's own remote address is the proxy in front, whatever is trusted, and none at all for a mirrored one
        "caller": "%REQ(X-ENVOY-EXTERNAL-ADDRESS):64%",
        "answer": f"%RESP({ANSWER_HEADER}):64%",
        "join": f"%REQ({PAIR_HEADER}):64%",
    }
)
"""The `json_format` of the router's `upstream_log`, to be written to attempts.log."""

ACCESS_LOG_FORMAT: Final = MappingProxyType(
    {
        **_SHARED,
        "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "route": "%ROUTE_NAME%",
        "path": "%REQ(:PATH):200%",
    }
)
"""The `json_format` of the listener's `access_log`, to be written to access.log."""
