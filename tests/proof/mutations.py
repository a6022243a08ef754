"""Safety code and how it is broken: each mutant by an exact replacement, with the tests that must fail on it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """What no longer holds, where, the text that says so and the one in its place, and the tests that must see it."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]


LEDGER, LEASES = "tests/registry/test_registry_ledger.py", "tests/registry/test_registry_leases.py"
STORE, JUDGE = "tests/registry/test_registry_store.py", "tests/monitoring/test_monitoring_judge.py"
EDGE, JOURNAL = "tests/traffic/test_traffic_edge.py", "tests/flows/test_flows_journal.py"
EDGES, BACK = "tests/traffic/test_traffic_three_edges.py", "tests/flows/test_flows_withdrawing.py"
WEBHOOKS = "tests/control/test_control_webhooks.py"
OBEYING, OPERATING = "tests/flows/test_flows_obeying.py", "tests/control/test_control_operating.py"

MUTANTS = (
    Mutant(
        "a controller whose epoch is over still writes events",
        "registry/ledger.py",
        "if newest is not None and newest > new.epoch:",
        "if False and newest is not None and newest > new.epoch:",
        (f"{LEDGER}::test_a_stale_epoch_is_refused_and_leaves_nothing",),
    ),
    Mutant(
        "an event does not care what it was expected to follow",
        "registry/ledger.py",
        "if expected is not None and expected != follows:",
        "if False and expected is not None and expected != follows:",
        (f"{LEDGER}::test_an_append_that_expects_an_older_stream_is_refused",),
    ),
    Mutant(
        "the chain is not followed from event to event",
        "registry/events.py",
        "if event.previous_hash != self.head.hash:",
        "if False and event.previous_hash != self.head.hash:",
        (f"{LEDGER}::test_a_tampered_chain_is_found",),
    ),
    Mutant(
        "an event's hash is not computed again",
        "registry/events.py",
        "if event.computed_hash() != event.hash:",
        "if False and event.computed_hash() != event.hash:",
        (f"{LEDGER}::test_an_edited_event_is_named",),
    ),
    Mutant(
        "two controllers hold one model",
        "registry/leases.py",
        "                return None\n            lease = Lease(",
        "                pass\n            lease = Lease(",
        (f"{LEASES}::test_a_lease_excludes_others_until_it_expires",),
    ),
    Mutant(
        "a lost lease is believed in",
        "flows/work.py",
        "if self.held.lost.is_set() or current is None or current.epoch != self.lease.epoch:",
        "if False and (self.held.lost.is_set() or current is None or current.epoch != self.lease.epoch):",
        (f"{JOURNAL}::test_a_lost_lease_stops_a_release_between_its_effects",),
    ),
    Mutant(
        "an act does not ask for the lease first",
        "flows/journal.py",
        "        self.guard()\n",
        "",
        (f"{JOURNAL}::test_nothing_is_done_to_the_world_once_the_lease_is_lost",),
    ),
    Mutant(
        "an effect is completed before it is done",
        "flows/journal.py",
        "        result = act()\n",
        '        self.record("effect.completed", {}, intent=intent.intent_id, effect=key)\n        result = act()\n',
        (f"{JOURNAL}::test_an_act_that_broke_off_is_done_again_and_only_then_completed",),
    ),
    Mutant(
        "a release goes on although a newer version is wanted",
        "flows/work.py",
        "if newest.release != self.desire.release:",
        "if False and newest.release != self.desire.release:",
        (f"{JOURNAL}::test_a_newer_desire_takes_a_release_off_the_stage",),
    ),
    Mutant(
        "a rejected version goes on",
        "flows/gating.py",
        "return tuple(str(reason) for reason in refusals) if isinstance(refusals, list)",
        "return () if isinstance(refusals, list)",
        (f"{JOURNAL}::test_a_version_that_was_refused_before_the_kill_is_refused_after_it",),
    ),
    Mutant(
        "a weight is not read back",
        "flows/endings.py",
        "    if wrong:\n        raise OperationFailed(\n            f\"edge {', '.join(wrong)}\"",
        "    if False:\n        raise OperationFailed(\n            f\"edge {', '.join(wrong)}\"",
        (f"{JOURNAL}::test_a_weight_that_an_edge_does_not_report_is_no_weight",),
    ),
    Mutant(
        "a canary that kills its controllers is taken up for ever",
        "flows/endings.py",
        "if work.phase in WITH_TRAFFIC and during > TAKEN_UP_IN_CANARY:",
        "if False and work.phase in WITH_TRAFFIC and during > TAKEN_UP_IN_CANARY:",
        (f"{JOURNAL}::test_a_canary_that_kills_its_controllers_is_not_taken_up_for_ever",),
    ),
    Mutant(
        "a canary that ran out of time keeps its verdict",
        "flows/canary.py",
        "return too_late(verdict, told.reasons) if told.over and not stage.last and verdict.outcome is not Outcome.ROLL_BACK else verdict",
        "return verdict",
        ("tests/flows/test_flows_canary.py",),
    ),
    Mutant(
        "a packaging that was cut off is never taken up again",
        "flows/shipping.py",
        "    if bento.exists():\n",
        "    if False:\n",
        ("tests/flows/test_flows_packaging.py",),
    ),
    Mutant(
        "'not enough data' promotes",
        "monitoring/judge.py",
        "return Outcome.NOT_ENOUGH_DATA, too_old",
        "return Outcome.PROMOTE, too_old",
        (JUDGE,),
    ),
    Mutant(
        "harm is overlooked",
        "monitoring/judge.py",
        "if case.found.second is not None:",
        "if False and case.found.second is not None:",
        (JUDGE,),
    ),
    Mutant(
        "one healthy region is enough",
        "monitoring/judge.py",
        "healthy = tried and all(passes(",
        "healthy = tried and any(passes(",
        (JUDGE,),
    ),
    Mutant(
        "the margin is ignored",
        "monitoring/promotion.py",
        "return log_e_value(seen, margin) >= -math.log(error)",
        "return seen.attempts > 0",
        (JUDGE,),
    ),
    Mutant("a region nobody tried is promoted", "monitoring/judge.py", "healthy = tried and all(", "healthy = all(", (JUDGE,)),
    Mutant(
        "regions are pooled against a fixed limit",
        "monitoring/wealth.py",
        "    if not dealt:\n",
        "    if False:\n",
        ("tests/monitoring/test_monitoring_metrics.py",),
    ),
    Mutant(
        "each metric spends the whole budget",
        "monitoring/wealth.py",
        "return np.asarray(np.logaddexp.reduce(np.stack(wealths) + np.log(np.asarray(stakes))[:, None], axis=0), dtype=np.float64)",
        "return np.asarray(np.max(np.stack(wealths), axis=0), dtype=np.float64)",
        ("tests/monitoring/test_monitoring_metrics.py",),
    ),
    Mutant(
        "old evidence promotes",
        "monitoring/judge.py",
        "if healthy and not too_old:",
        "if healthy:",
        (f"{JUDGE}::test_counts_that_ended_too_long_ago_never_promote_but_still_roll_back",),
    ),
    Mutant(
        "a failed gate does not stop a version",
        "policies/gates.py",
        "return bool(results) and all(result.outcome is not GateOutcome.FAILED for result in results)",
        "return True",
        ("tests/policies/test_policies_schema.py",),
    ),
    Mutant(
        "the edge takes an older table",
        "traffic/keeper.py",
        "if held is not None and table.order <= held.table.order:",
        "if False and held is not None and table.order <= held.table.order:",
        (f"{EDGE}::test_older_epoch_and_lower_version_are_refused",),
    ),
    Mutant(
        "a raise needs no preparation",
        "traffic/keeper.py",
        "if prepared is None or prepared.table != table or not prepared.warm:",
        "if False and (prepared is None or prepared.table != table or not prepared.warm):",
        (f"{EDGE}::test_a_raise_needs_to_be_prepared",),
    ),
    Mutant(
        "a raise to a sick backend is taken",
        "traffic/keeper.py",
        "        if sick:\n",
        "        if False:\n",
        (f"{EDGE}::test_a_raise_to_an_unhealthy_backend_is_refused_and_nothing_changes",),
    ),
    Mutant(
        "the safe weights do not come at the expiry",
        "traffic/keeper.py",
        "self._fall_back(held, EXPIRED)",
        "pass",
        (f"{EDGE}::test_past_expiry_the_safe_shares_come_back_with_every_controller_gone",),
    ),
    Mutant(
        "safe weights do not keep an earlier epoch out",
        "traffic/memory.py",
        "if epoch > self.table.epoch else self",
        "if False else self",
        (f"{EDGES}::test_safe_weights_under_a_later_epoch_keep_the_earlier_one_out",),
    ),
    Mutant(
        "edges switch although one refused",
        "traffic/edges.py",
        "    if refusals:\n        raise refusals[0]\n",
        "",
        (f"{EDGES}::test_one_edge_that_refuses_a_raise_keeps_all_as_they_are_and_is_named",),
    ),
    Mutant(
        "edges are put on safe weights one after the other",
        "traffic/edges.py",
        "return list(pool.map(attempt, edges))",
        "return [attempt(edge) for edge in reversed(edges)]",
        (f"{EDGES}::test_no_edge_delays_the_safe_weights_of_the_others",),
    ),
    Mutant(
        "an edge prefers no region",
        "traffic/weights.py",
        "(own,) if own in places else places",
        "places",
        ("tests/traffic/test_traffic_weights.py",),
    ),
    Mutant(
        "an edge that does not answer counts as 0 before its table has expired",
        "flows/withdrawing.py",
        "if time.monotonic() >= expired:",
        "if True:",
        (f"{BACK}::test_an_edge_whose_envoy_was_left_on_stable_counts_as_such_once_its_table_has_expired",),
    ),
    Mutant(
        "an edge that does not answer counts as 0 whatever its Envoy says",
        "flows/withdrawing.py",
        "if found.percent == 0",
        "if True",
        (f"{BACK}::test_an_edge_that_still_routes_to_the_canary_fails_the_rollback_and_keeps_its_processes",),
    ),
    Mutant(
        "an unknown weight is no weight",
        "flows/withdrawing.py",
        "if found.percent == 0",
        "if not found.percent",
        (f"{BACK}::test_a_far_edge_that_does_not_answer_has_an_unknown_weight",),
    ),
    Mutant(
        "a copy is not read back from the region's store",
        "registry/store.py",
        "    for part in manifest.parts():\n        target.get_part(part.digest)\n",
        "",
        (f"{STORE}::test_a_flipped_byte_in_the_target_keeps_the_manifest_out",),
    ),
    Mutant(
        "stored bytes are not what their digest says",
        "registry/store.py",
        '        if digest_of(data) != digest:\n            raise IntegrityError(\n                f"blob',
        '        if False:\n            raise IntegrityError(\n                f"blob',
        (f"{STORE}::test_a_flipped_byte_is_found_on_read_and_on_copy_and_never_overwritten",),
    ),
    Mutant(
        "the service serves bytes that its digest does not name",
        "bentos/service/integrity.py",
        "if wanted.digest != found.digest:",
        "if False and wanted.digest != found.digest:",
        ("tests/bentos/test_bentos_integrity.py::test_every_kind_of_damage_is_found_and_named",),
    ),
    Mutant(
        "the service takes any manifest",
        "bentos/service/integrity.py",
        "if _digest(raw) != revision:",
        "if False and _digest(raw) != revision:",
        ("tests/bentos/test_bentos_integrity.py::test_every_kind_of_damage_is_found_and_named",),
    ),
    Mutant(
        "a webhook that nobody signed is believed",
        "control/webhooks.py",
        "if not delivery or not hmac.compare_digest(expected.encode(), signature.encode()):",
        "if not delivery:",
        (WEBHOOKS,),
    ),
    Mutant(
        "an old webhook is believed",
        "control/webhooks.py",
        "if not timestamp.isdigit() or abs(now - int(timestamp)) > FRESH_SECONDS:",
        "if not timestamp.isdigit():",
        (WEBHOOKS,),
    ),
    Mutant(
        "a paused canary rises",
        "flows/canary.py",
        "if began is None and not missing and affordable >= step.weight and told.go is Go.ON:",
        "if began is None and not missing and affordable >= step.weight:",
        (f"{OBEYING}::test_a_paused_release_that_is_taken_up_again_raises_nothing",),
    ),
    Mutant(
        "an operator promotes what does harm",
        "flows/obeying.py",
        "if order is None or verdict.outcome is Outcome.ROLL_BACK:",
        "if order is None:",
        (f"{OBEYING}::test_harm_comes_before_a_persons_word",),
    ),
    Mutant(
        "an operator promotes without a way back",
        "flows/canary.py",
        "if not missing and (promoted :=",
        "if (promoted :=",
        (f"{OBEYING}::test_promote_now_waits_until_the_way_back_is_warm",),
    ),
    Mutant(
        "nobody looks whether a release was aborted",
        "flows/work.py",
        "if orders.aborted is not None:",
        "if False and orders.aborted is not None:",
        (f"{OBEYING}::test_an_abort_is_obeyed_at_the_next_tick",),
    ),
    Mutant(
        "an abort slips in unseen before the promotion",
        "flows/journal.py",
        "return self.enter(phase, *reasons, behind=position)",
        "return self.enter(phase, *reasons)",
        (f"{OBEYING}::test_an_abort_that_comes_while_the_promotion_is_written_wins",),
    ),
    Mutant(
        "a canary whose time ended promotes itself while it asks",
        "flows/canary.py",
        "free = told.orders.paused is None and not (told.holds and before.holds)",
        "free = told.orders.paused is None",
        (f"{OBEYING}::test_a_canary_whose_time_ended_asks_and_only_an_operator_promotes_it",),
    ),
    Mutant(
        "any token commands",
        "fleet/operators.py",
        "        if name is None:\n            raise Refused(",
        "        if False:\n            raise Refused(",
        (f"{OPERATING}::test_a_wrong_token_is_refused_and_leaves_the_ledger_as_it_was",),
    ),
    Mutant(
        "a pass is good for every command",
        "flows/operating.py",
        "if who.pass_ is not None and (who.pass_.release, who.pass_.command) != (desire.release, command):",
        "if False:",
        (f"{OPERATING}::test_a_wrong_token_is_refused_and_leaves_the_ledger_as_it_was",),
    ),
    Mutant(
        "an approval of one revision lets another one have traffic",
        "flows/obeying.py",
        "if order.digest != revision.digest:",
        "if False:",
        (f"{OBEYING}::test_an_approval_of_another_digest_is_none",),
    ),
)
