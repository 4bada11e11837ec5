//! The promises of a dispatcher and real `ppserver` processes, over encrypted loopback TCP.

mod failing;
mod fake;
mod floods;
mod greedy;
mod hostile;
mod jobs;
mod machines;
mod metrics;
mod peer;
mod programs;
mod refusing;
mod rotation;
mod running;
mod scarce;
mod secrecy;
mod stuck;
mod watching;
mod within;

use pp_tests::harness::{self, Test};

fn main() {
    if std::env::var_os(refusing::FORGETFUL).is_some() {
        return refusing::forget_init();
    }
    pp_dispatcher::init();
    if let Some(node) = std::env::var_os(failing::ABANDONING) {
        return failing::start_jobs_and_hang(&node.to_string_lossy());
    }
    if let Some(workers) = std::env::var_os(scarce::LOCAL_WORKERS) {
        return scarce::run_on_local_workers(&workers.to_string_lossy());
    }
    if std::env::var_os(failing::REMOVED).is_some() {
        return failing::remove_itself();
    }
    if std::env::var_os(floods::ON_A_HOST).is_some() {
        return floods::withstand_one_network();
    }
    if let Some(node) = std::env::var_os(metrics::FLOODING) {
        return metrics::flood_from(&node.to_string_lossy());
    }
    // These wait most of the time.
    const WAITING: &[Test] = pp_tests::tests![
        running::every_job_runs_on_the_node_that_was_named,
        running::ppctl_resizes_a_node_during_a_run_without_losing_a_job,
        running::a_dispatcher_resizes_a_node_down_to_none_and_back,
        running::what_a_job_prints_on_a_node_arrives_with_its_name,
        running::a_job_on_a_node_is_cancelled_or_killed_at_its_limit,
        running::a_lost_worker_on_a_node_is_told_with_its_last_words,
        watching::an_operator_sees_what_runs_what_failed_and_which_worker_died,
        watching::whoever_stops_watching_is_told_nothing_and_a_node_that_comes_back_tells_again,
        watching::a_node_knows_how_many_jobs_wait_at_its_dispatchers,
        failing::a_killed_node_costs_nothing_and_is_used_again_when_it_is_back,
        failing::a_frozen_node_loses_its_jobs_to_others_and_is_used_again_when_it_thaws,
        failing::a_job_that_may_run_twice_is_copied_where_a_slot_idles,
        failing::shutting_down_does_not_wait_for_a_frozen_node,
        failing::a_drained_node_finishes_what_runs_and_the_rest_goes_elsewhere,
        failing::a_second_signal_ends_a_drain_at_once,
        failing::a_program_removed_from_a_running_nodes_store_is_sent_again,
        failing::a_store_that_is_removed_from_under_a_node_is_made_again,
        failing::a_program_whose_file_is_removed_while_it_runs_goes_on,
        failing::a_killed_dispatcher_leaves_no_process_behind,
        failing::nothing_that_jobs_started_outlives_them_however_they_are_ended,
        hostile::a_dispatcher_may_neither_resize_nor_drain_a_node,
        hostile::a_dispatcher_that_stops_reading_is_cut_off_and_the_others_are_served,
        hostile::a_node_whose_disk_is_full_says_so_and_takes_part_once_there_is_room,
        stuck::two_hundred_peers_that_are_closed_and_neither_read_nor_close_keep_nobody_out,
        scarce::a_node_that_may_have_no_more_threads_says_so_and_lives_on,
        scarce::a_node_that_may_write_no_large_files_says_so_and_lives_on,
        scarce::where_not_even_a_page_may_be_written_jobs_say_so,
        scarce::processor_time_that_is_used_up_is_told_before_the_end,
        programs::a_node_that_refuses_one_of_several_programs_runs_the_others,
        programs::a_node_has_functions_of_its_own_and_is_sent_no_program_for_them,
        programs::a_node_of_another_architecture_runs_commands_with_an_empty_store,
        secrecy::no_job_finds_the_secret_in_its_memory_or_in_what_processes_were_started_with,
        refusing::another_secret_is_refused_and_says_what_to_do,
        refusing::another_protocol_version_is_refused_by_either_side,
        refusing::a_program_for_another_architecture_is_refused_by_a_node,
        refusing::a_dispatcher_says_why_a_node_does_not_run_its_program,
        refusing::what_is_not_a_ppserver_is_told_apart_from_nothing,
        refusing::a_program_that_forgets_init_is_told_so_before_it_starts_a_worker,
        refusing::a_program_that_calls_init_only_at_times_is_told_by_its_workers,
        refusing::a_dispatcher_without_a_secret_says_where_to_get_one,
        machines::a_machine_that_is_listed_runs_jobs_and_one_that_is_not_is_told_the_line_to_add,
        machines::a_dispatcher_without_a_key_is_told_how_to_make_one,
        machines::options_say_as_what_a_machine_may_connect,
        machines::a_stolen_nodes_key_and_the_secret_submit_nowhere,
        machines::a_line_that_is_removed_ends_its_sessions_and_no_others,
        machines::a_node_that_is_known_is_believed_with_its_key_only,
        machines::a_node_that_is_known_by_its_key_is_not_believed_with_the_secret_alone,
        machines::nodes_of_either_kind_share_the_work_of_one_dispatcher,
        metrics::every_metric_is_moved_by_what_it_counts_and_no_counter_falls,
        metrics::fifty_dispatchers_make_no_series_and_promtool_finds_nothing_to_say,
    ];
    // These measure, or want all of the machine.
    const MEASURING: &[Test] = pp_tests::tests![
        running::local_cores_and_two_nodes_share_the_jobs,
        running::two_dispatchers_share_a_node_slot_by_slot,
        running::with_restart_every_job_has_a_worker_of_its_own,
        running::many_jobs_cancelled_one_after_the_other_freeze_nobody,
        running::long_jobs_are_not_hoarded_after_short_ones,
        hostile::one_poison_job_among_a_thousand_costs_three_workers_and_nothing_else,
        hostile::a_length_that_is_a_lie_costs_the_daemon_no_memory,
        hostile::a_recorded_first_flight_replayed_ten_thousand_times_opens_nothing_and_keeps_nobody_out,
        hostile::a_result_or_an_argument_beyond_the_limit_is_an_outcome,
        hostile::a_worker_killed_for_lack_of_memory_is_told_as_that,
        hostile::five_hundred_silent_connections_keep_nobody_out,
        hostile::strangers_that_hold_every_descriptor_do_not_keep_jobs_from_running,
        floods::a_flood_from_one_address_keeps_no_distant_dispatcher_out,
        floods::a_flood_from_many_addresses_of_one_network_keeps_no_distant_dispatcher_out,
        floods::a_thousand_connections_that_announce_the_largest_frame_take_no_memory,
        floods::a_thousand_peers_that_know_the_secret_and_stop_within_something_large_take_no_memory,
        floods::strangers_leave_descriptors_to_whoever_is_in_where_workers_hold_most,
        greedy::three_hundred_arguments_of_a_mebibyte_at_a_window_of_two_are_refused_and_cost_no_memory,
        stuck::a_peer_that_asks_without_end_and_reads_nothing_is_cut_off_and_costs_no_memory,
        stuck::programs_that_are_sent_in_part_take_bounded_disk_and_memory_and_make_way,
        stuck::six_hundred_programs_that_are_offered_and_not_sent_keep_nobody_out,
        stuck::large_messages_that_arrive_in_part_are_put_together_within_a_budget,
        scarce::where_descriptors_are_few_those_workers_that_start_do_all_the_work,
        scarce::a_dispatcher_with_few_descriptors_uses_those_local_workers_that_start,
        scarce::a_dispatcher_with_next_to_no_descriptors_says_which_limit_and_what_to_do,
        scarce::the_descriptor_limit_is_raised_for_the_node_and_not_for_its_jobs,
        scarce::where_processes_are_few_those_workers_that_start_do_all_the_work,
        secrecy::the_secret_is_in_no_log_no_core_no_other_process_and_not_on_the_wire,
        rotation::a_secret_is_replaced_in_three_steps_under_load_and_a_thief_is_out_within_a_second,
    ];
    harness::run_some_side_by_side(3, WAITING, MEASURING)
}
