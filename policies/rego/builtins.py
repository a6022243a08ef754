"""Which built-in functions a policy may call: those whose answer follows from their arguments alone.

The list is closed. What is not on it is refused, whether the engine knows it or not, so that a newer engine cannot bring a
function in that nobody looked at.
"""

from __future__ import annotations

NAMES = """
abs ceil floor round sum product max min sort count concat contains endswith startswith format_int indexof indexof_n lower upper
replace split sprintf substring trim trim_left trim_prefix trim_right trim_space trim_suffix to_number type_name walk
is_array is_boolean is_null is_number is_object is_set is_string union intersection
array.concat array.reverse array.slice
base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad hex.decode hex.encode
bits.and bits.lsh bits.negate bits.or bits.rsh bits.xor
glob.match glob.quote_meta graph.reachable graph.reachable_paths
json.filter json.is_valid json.marshal json.match_schema json.patch json.remove json.unmarshal json.verify_schema
numbers.range numbers.range_step
object.filter object.get object.keys object.remove object.subset object.union object.union_n
regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace regex.split regex.template_match
semver.compare semver.is_valid
strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse
time.add_date time.clock time.date time.diff time.format time.parse_duration_ns time.parse_ns time.parse_rfc3339_ns time.weekday
units.parse units.parse_bytes urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object uuid.parse
yaml.is_valid yaml.marshal yaml.unmarshal
"""
ALLOWED = frozenset(NAMES.split())

WHY = {
    "http": "it reaches the network",
    "net": "it reaches the network",
    "providers": "it signs requests to a cloud",
    "opa": "it reads the engine's surroundings",
    "rego": "it reads policies at run time",
    "time.now_ns": "it reads the clock; hand the time in with the input",
    "rand": "it answers by chance",
    "uuid.rfc4122": "it answers by chance",
    "trace": "it writes beside the decision",
    "print": "it writes beside the decision",
    "crypto": "this engine has no cryptography",
    "io": "this engine has no tokens",
    "graphql": "this engine has no GraphQL",
}
NAMESPACES = frozenset(name.partition(".")[0] for name in ALLOWED if "." in name) | {name for name in WHY if "." not in name}

FORBIDDEN = frozenset(
    [
        "http.send",
        "opa.runtime",
        "rego.parse_module",
        "rego.metadata.chain",
        "rego.metadata.rule",
        "time.now_ns",
        "rand.intn",
        "uuid.rfc4122",
    ]
) | {f"net.{name}" for name in ("lookup_ip_addr", "cidr_contains", "cidr_contains_matches", "cidr_expand", "cidr_intersects", "cidr_merge")}
"""Names that may not be used otherwise than by a call either, as what `with` puts in a function's place."""


def why_not(name: str) -> str:
    """Return why a policy may not call a function of this name."""
    known = WHY.get(name) or WHY.get(name.partition(".")[0])
    return known or "neither this bundle defines it nor is it one of the functions that a policy may call"
