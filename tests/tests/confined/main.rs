//! What a job can do on a machine whose owner did not write it: jobs that attack their node, and honest work beside them.
//!
//! Root may do too much for refusals to be seen: the daemons run as another user, where the tests are run by root, but for
//! those that root has to start.

mod attacks;
mod bounds;
mod files;
mod groups;
mod itself;
mod kernels;
mod node;
mod stored;
mod users;

use pp_tests::harness::{self, Test};

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(kernels::ON_KERNEL) {
        return kernels::start_on_kernel(arguments);
    }
    pp_dispatcher::init();
    // These wait most of the time.
    const WAITING: &[Test] = pp_tests::tests![
        attacks::a_job_gets_at_no_secret_no_program_and_no_other_process,
        attacks::at_strict_a_job_gets_at_what_it_is_granted_and_no_more,
        itself::a_job_has_no_privileges_and_a_directory_of_its_own,
        itself::a_job_has_the_variables_that_are_listed_or_given_and_no_others,
        kernels::what_is_said_to_be_in_force_is_and_nothing_else_on_any_kernel,
        kernels::a_daemon_that_hides_its_memory_runs_jobs_on_kernels_before_6_4,
        kernels::strict_refuses_to_start_where_it_cannot_be_in_force,
        files::files_of_commands_go_there_and_back_under_each_confinement_and_as_each_user,
        files::what_a_session_keeps_is_its_own_and_goes_with_it,
        stored::what_jobs_wrote_is_removed_when_their_daemon_ends_and_when_the_next_begins,
        stored::a_stored_program_that_was_changed_is_not_run,
    ];
    // These measure, or want all of the machine.
    const MEASURING: &[Test] = pp_tests::tests![
        users::jobs_of_a_daemon_of_root_run_as_the_user_it_was_told,
        users::root_is_warned_that_jobs_run_as_root,
        bounds::whatever_a_job_does_its_node_answers_others_finish_and_nothing_is_left,
        bounds::two_seconds_after_a_session_ends_nothing_of_it_is_left,
        groups::a_job_has_as_many_processes_and_as_much_memory_as_the_node_says,
        groups::without_groups_and_a_user_for_jobs_a_limit_of_processes_is_said_to_be_none,
        groups::a_worker_has_a_control_group_that_it_cannot_leave_and_that_goes_with_it,
        groups::groups_of_a_daemon_that_was_killed_are_removed_by_the_next,
    ];
    harness::run_some_side_by_side(3, WAITING, MEASURING)
}
