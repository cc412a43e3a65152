"""Which tests show that a fault is borne: a row for each that a trusted proxy bears, and for each that was measured.

Sources of the rows: RFC 9110 and 9112, what nginx, HAProxy, Envoy, Linkerd and Contour promise, and what was measured
of the first three.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

ROWS = """
slow head: wire/test_timeouts_of_clients.py
    test_a_head_that_trickles_has_no_more_time
    test_empty_lines_buy_a_client_no_time
slow body: wire/test_timeouts_of_clients.py
    test_a_body_that_stops_is_408_and_ends_the_endpoints_connection
    test_a_body_that_always_comes_in_time_but_hardly_at_all_is_408
    test_a_slow_body_has_all_the_time_that_it_needs
slow reader: wire/test_memory.py
    test_a_download_larger_than_any_buffer_passes_a_client_that_stops_and_goes_on
slow reader, for ever: wire/test_timeouts_of_clients.py
    test_a_client_that_reads_nothing_is_given_up
slow reader of one stream: wire/test_http2.py
    test_a_client_that_takes_nothing_holds_up_its_endpoint_and_nobody_else
    test_an_answer_that_nobody_has_a_window_for_does_not_wait_for_ever
windows of nothing: wire/test_http2_floods.py
    test_windows_of_nothing_hold_neither_endpoints_nor_memory_for_long
floods of HTTP/2: wire/test_http2_floods.py
    test_a_flood_ends_who_sends_it_and_nobody_else
    test_a_bomb_of_fields_is_431_and_holds_no_memory
half a frame: wire/test_http2.py
    test_a_frame_that_does_not_come_in_time_ends_the_connection
    test_settings_that_are_never_confirmed_end_the_connection
too many connections: wire/test_overload.py
    test_beyond_the_limit_clients_are_answered_503_at_once_and_those_inside_are_served
    test_each_address_has_its_own_limit
    test_relays_count_too_and_one_too_many_is_reset
no descriptor left: wire/test_overload.py
    test_without_a_descriptor_clients_wait_nothing_spins_and_all_are_served_in_the_end
memory pressure: wire/test_memory_pressure.py
    test_each_step_of_memory_gives_up_a_little_more
    test_a_group_of_200_mb_is_never_killed_refuses_in_time_and_recovers
    test_at_the_last_step_those_are_cut_off_for_whom_far_more_waits_than_may
no processor time left: wire/test_overload.py
    test_a_loop_that_is_late_refuses_what_has_waited_too_long_says_so_and_recovers
    test_in_a_late_turn_who_comes_in_time_is_served
endpoint refuses: wire/test_retries.py
    test_an_endpoint_that_refuses_costs_no_request_whatever_its_method
    test_when_every_endpoint_refuses_each_is_tried_once_and_the_client_is_told_at_once
endpoint in a black hole: wire/test_bad_networks.py
    test_a_black_hole_in_the_place_of_an_endpoint_costs_the_connect_timeout_and_no_request
    test_when_every_endpoint_is_behind_a_black_hole_the_client_hears_of_it_in_time
endpoint closes before any byte of its response: wire/test_retries.py
    test_a_request_that_changes_nothing_goes_to_another_endpoint_when_one_gives_no_answer
    test_a_request_on_which_an_endpoint_may_have_acted_is_never_sent_twice
endpoint dies within its response: wire/test_bodies.py
    test_a_client_sees_that_its_response_was_cut_off
    test_a_reset_is_no_end_of_a_body_that_its_connection_ends
endpoint dies within its response, once: wire/test_endpoints_that_fail.py
    test_a_response_that_is_cut_off_is_never_tried_again
endpoint hangs: wire/test_timeouts_of_endpoints.py
    test_an_endpoint_that_says_nothing_is_504_and_sees_the_end
    test_an_endpoint_that_trickles_its_head_has_no_more_time
endpoint never ends: wire/test_overdue.py
    test_a_response_that_is_always_in_time_but_never_over_is_cut_off
client goes away: wire/test_hang_ups.py
    test_an_endpoint_sees_at_once_that_the_client_reset_its_connection
    test_a_thousand_clients_that_leave_leave_nothing_behind
retry storm: wire/test_retries.py
    test_an_outage_is_not_multiplied
    test_retries_on_a_status_are_in_the_budget_too
one bad endpoint of many: wire/test_health.py
    test_an_endpoint_that_fails_five_requests_in_a_row_gets_no_more
    test_an_ejected_endpoint_is_asked_by_one_request_and_comes_back_when_it_answers
    test_each_ejection_lasts_longer_than_the_one_before
all endpoints failed: wire/test_health.py
    test_when_all_endpoints_failed_the_first_that_revives_serves_at_once
    test_when_more_than_the_share_would_be_out_all_are_used
    test_without_an_endpoint_the_client_hears_when_to_come_again
endpoint returns: wire/test_health.py
    test_an_endpoint_that_just_became_ready_takes_its_share_in_a_line
    test_an_endpoint_that_comes_back_from_an_ejection_starts_slowly_too
SIGTERM: wire/test_drain.py
    test_during_the_grace_readiness_fails_and_everything_is_still_served
    test_a_proxy_told_to_end_under_load_fails_no_request
    test_a_websocket_lives_until_it_ends_or_the_deadline_comes
    test_what_does_not_finish_is_cut_off_at_the_deadline
changes under load: wire/test_swap.py
    test_a_hundred_and_fifty_swaps_under_load_fail_no_request
    test_a_request_that_waits_for_its_removed_endpoint_is_answered_by_it
a thousand changes under load: wire/test_stream.py
    test_a_thousand_changes_under_load_fail_no_request
certificate broken: wire/test_faults.py
    test_certificates_that_turn_to_garbage_under_load_fail_no_handshake_of_any_host
operator crashes: cluster/test_outages.py
    test_an_operator_that_is_killed_is_replaced_by_one_that_sends_nothing_anew
    test_a_proxy_that_is_killed_serves_again_though_no_operator_is_there
worker crashes: wire/test_workers.py
    test_killing_workers_under_load_refuses_nobody
    test_the_backlog_of_a_worker_that_dies_is_served_by_its_successor
supervisor crashes: wire/test_drain.py
    test_workers_end_when_their_supervisor_is_killed
clock jumps: wire/test_faults.py
    test_a_wall_clock_that_jumps_ends_nothing_and_delays_nothing
names do not resolve: wire/test_bad_networks_of_processes.py
    test_while_the_name_server_is_in_a_black_hole_the_last_addresses_serve
network loses packets: wire/test_bad_networks.py
    test_a_network_that_loses_five_in_a_hundred_packets_fails_no_request
peer vanishes: wire/test_bad_networks.py
    test_an_endpoint_that_vanishes_before_or_within_its_response_is_given_up_in_time
    test_a_client_that_vanishes_within_its_response_is_given_up_in_time
    test_a_quiet_tunnel_to_a_peer_that_vanished_is_ended_by_keepalive
network resets: wire/test_bad_networks.py
    test_a_reset_by_the_network_within_a_response_is_visible_to_the_client
    test_endpoints_whose_network_resets_every_connection_are_passed_over
    test_a_client_that_the_network_resets_ends_its_request_at_the_endpoint
network is slow: wire/test_bad_networks.py
    test_large_bodies_pass_a_slow_network_whole_and_wait_where_they_come_from
    test_a_client_behind_a_slow_network_holds_its_endpoint_up
layer 4, bad networks: wire/test_bad_networks_of_processes.py
    test_layer_4_passes_over_an_endpoint_in_a_black_hole
    test_a_reset_by_the_network_passes_through_layer_4_as_one_either_way
    test_relays_run_on_when_the_network_is_away_for_a_moment
    test_a_relay_to_a_peer_that_vanished_is_ended_though_its_idle_time_is_not_over
layer 4, half-close, RST and slow sides: proxy/test_relay.py
    test_a_client_that_sends_nothing_more_still_gets_its_answer
    test_a_reset_by_the_client_reaches_the_upstream_as_one
    test_a_reset_by_the_upstream_reaches_the_client_as_one
    test_a_relay_without_traffic_is_reset_at_its_deadline
    test_a_thousand_relays_leave_no_descriptor_and_no_pipe_behind
layer 4, a gibibyte each way: wire/test_faults.py
    test_a_gibibyte_each_way_at_once_passes_layer_4_whole_and_memory_stays_flat
log blocked or full: proxy/test_access_log.py
    test_a_reader_that_does_not_keep_up_costs_lines_and_no_time
    test_a_full_disk_costs_lines_only
measured, 30 kept-alive connections die under GET and under POST: wire/test_endpoints_that_fail.py
    test_thirty_requests_that_change_nothing_all_succeed_on_connections_that_die_under_them
    test_no_request_that_may_change_something_is_ever_sent_twice
measured, endpoint refuses, and comes back: wire/test_endpoints_that_fail.py
    test_an_endpoint_that_refuses_is_502_at_once
    test_an_endpoint_that_comes_back_is_used_at_once
measured, deaf clients, deaf endpoints, half-sent heads: wire/test_memory.py
    test_a_hundred_clients_that_ask_for_much_and_read_nothing_cost_little
    test_fifty_uploads_to_a_deaf_endpoint_cost_little
    test_half_sent_heads_cost_little
measured, 50 half-sent heads in time: wire/test_faults.py
    test_all_of_fifty_half_sent_heads_are_cut_off_in_their_time
measured, a request in flight at the end: wire/test_drain.py
    test_a_request_in_flight_completes_and_its_connection_is_told_to_close
measured, 128 descriptors and 300 clients: wire/test_overload.py
    test_three_hundred_clients_and_128_descriptors_are_served_or_answered_503
    test_a_limit_that_the_descriptors_do_not_allow_stops_the_start_with_a_sentence
"""


def rows() -> list[tuple[str, str, list[str]]]:
    found: list[tuple[str, str, list[str]]] = []
    for line in ROWS.strip().splitlines():
        if line.startswith(" "):
            found[-1][2].append(line.strip())
        else:
            fault, _, path = line.rpartition(": ")
            found.append((fault, path, []))
    return found


@pytest.mark.parametrize(("fault", "path", "names"), rows(), ids=[fault for fault, _, _ in rows()])
def test_every_fault_has_tests_that_show_it(fault: str, path: str, names: list[str]) -> None:
    there = set(re.findall(r"^(?:async )?def (test_\w+)", (TESTS / path).read_text(), re.MULTILINE))
    assert names, fault
    assert set(names) <= there
