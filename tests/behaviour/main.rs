//! One suite of promises, kept by every way in: a queue inside the program and a node over HTTP,
//! each in memory and on the disk. A failing test names both: the way and the promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a test ends at the first surprise"
)]

#[path = "../node/mod.rs"]
mod node;

mod door;
mod harness;
mod http_dead;
mod http_door;
mod http_operators;
mod queue_reply;
mod result_reply;
mod settle_call;

mod ageing;
mod bulk_dead;
mod cancel;
mod claim;
mod dead;
mod edit_dead;
mod enqueue;
mod expiry;
mod lease;
mod limits;
mod list;
mod pause;
mod payload;
mod purge;
mod queues;
mod restart;
mod result;
mod retry;
mod settle;
mod shared_keys;
mod stale;
mod unique;
mod waiting;

use harness::Harness;

/// A test of each promise on one way in.
macro_rules! kept_by {
    ($name:ident, $way:ident, $($file:ident: $($promise:ident,)+;)+) => {
        mod $name {
            $(mod $file {
                $(#[tokio::test]
                async fn $promise() {
                    use crate::harness::{Harness, Way, keep};
                    keep(Way::$way, async |queue: &mut Harness| {
                        crate::$file::$promise(queue).await
                    })
                    .await;
                })+
            })+
        }
    };
}

/// Promises of every way in.
macro_rules! promises {
    ($($list:tt)+) => {
        kept_by!(embedded_memory, EmbeddedMemory, $($list)+);
        kept_by!(embedded_sled, EmbeddedSled, $($list)+);
        kept_by!(http_memory, HttpMemory, $($list)+);
        kept_by!(http_sled, HttpSled, $($list)+);
    };
}

/// Promises over a restart. A node in memory forgets everything, as it says, and is left out.
macro_rules! promises_over_a_restart {
    ($($list:tt)+) => {
        kept_by!(reopened_embedded_memory, EmbeddedMemory, $($list)+);
        kept_by!(reopened_embedded_sled, EmbeddedSled, $($list)+);
        kept_by!(reopened_http_sled, HttpSled, $($list)+);
    };
}

promises! {
    enqueue:
        a_job_goes_all_the_way,
        the_answer_describes_the_job,
        ids_sort_by_time_and_have_26_characters,
        a_batch_is_taken_whole_and_in_order,
        one_bad_job_refuses_the_whole_batch,
        an_empty_batch_is_refused,
        a_batch_over_4_mib_is_too_large,
        a_delayed_job_waits_for_its_time,
        a_job_runs_at_the_time_given,
        a_time_in_the_past_is_now,
        a_field_beyond_its_limit_is_named_and_nothing_is_enqueued,
        an_unknown_id_is_not_found,;
    claim:
        within_a_priority_the_oldest_comes_first,
        a_more_urgent_job_always_comes_first,
        queues_of_one_priority_take_turns,
        a_claim_sees_only_what_it_asks_for,
        a_wanted_kind_is_found_behind_a_long_line_of_others,
        filters_hold_together,
        a_hundred_jobs_in_one_claim,
        no_job_goes_to_two_workers,
        a_claim_that_waits_in_vain_gets_an_empty_list,
        a_claim_beyond_its_limits_names_the_field,
        a_claimed_job_is_what_was_enqueued,;
    waiting:
        an_enqueue_wakes_a_waiting_claim,
        a_due_job_wakes_a_waiting_claim,
        a_due_retry_wakes_a_waiting_claim,
        a_release_wakes_a_waiting_claim,
        a_lease_that_ends_wakes_a_waiting_claim,
        a_replay_wakes_a_waiting_claim,
        the_first_to_wait_is_the_first_served,
        a_waiting_claim_is_woken_only_by_what_it_wants,
        a_claimer_that_goes_away_strands_no_job,
        a_claimer_that_goes_away_at_the_wrong_moment_strands_no_job,;
    settle:
        acks_and_fails_have_outcomes_in_their_order,
        what_rides_along_is_settled_before_the_claim,
        what_rides_along_is_settled_even_if_no_job_comes,
        one_bad_lease_does_not_stop_the_others,
        the_same_ack_twice_in_one_call_is_lost_the_second_time,
        a_thousand_acks_in_one_call,
        more_than_a_thousand_are_too_many,;
    stale:
        after_an_ack_the_token_is_dead,
        after_a_fail_the_token_is_dead,
        after_the_last_fail_the_token_is_dead,
        after_a_release_the_token_is_dead,
        after_a_release_with_delay_the_token_is_dead,
        after_the_lease_ran_out_the_token_is_dead,
        after_a_new_claim_the_old_token_is_dead,
        a_token_that_was_never_handed_out_is_dead,;
    lease:
        extend_keeps_a_lease_beyond_its_first_deadline,
        extend_can_shorten_a_lease,
        a_running_job_shows_its_worker_and_its_progress,
        a_release_costs_neither_attempt_nor_interruption,
        a_release_with_delay_waits,
        a_lease_that_runs_out_costs_an_interruption_and_no_attempt,
        interrupted_too_often_a_job_is_dead_as_crashed,
        a_timeout_is_a_failure_however_often_extended,
        an_extend_beyond_its_limits_names_the_field,;
    retry:
        delays_double_up_to_the_maximum,
        jitter_takes_off_up_to_its_share,
        the_worker_may_say_when,
        a_critical_job_has_five_attempts_and_others_three,
        a_job_may_have_its_own_number_of_attempts,
        the_last_eight_errors_are_kept_each_a_kilobyte_long,
        told_not_to_retry_a_job_is_dead_as_rejected,
        interruptions_are_kept_over_a_failure,;
    dead:
        pages_follow_each_other_without_gap_or_double,
        a_page_of_one_queue_holds_no_other,
        dead_letters_come_in_the_order_of_their_death,
        a_replay_begins_the_attempts_again_and_keeps_the_errors,
        a_replayed_job_dies_again_after_all_its_attempts,
        a_live_job_cannot_be_replayed,
        a_dead_letter_keeps_its_payload,
        a_bad_page_names_the_field,
        each_part_of_a_filter_is_kept,
        a_deleted_letter_is_gone,;
    cancel:
        a_scheduled_job_is_gone_at_once,
        a_ready_job_is_never_handed_out,
        a_retrying_job_is_gone_at_once,
        a_dead_letter_is_gone_at_once,
        the_holder_of_a_running_job_is_told_at_its_next_extend,
        an_ack_of_a_cancelled_job_is_refused_and_ends_it,
        a_fail_of_a_cancelled_job_makes_no_retry_and_no_dead_letter,
        a_release_of_a_cancelled_job_does_not_bring_it_back,
        among_many_acks_the_cancelled_one_is_told,
        a_lease_that_runs_out_ends_a_cancelled_job,
        a_timeout_ends_a_cancelled_job,
        cancelled_twice_a_running_job_goes_once,
        a_large_payload_goes_with_its_job,
        one_job_out_of_the_middle_leaves_the_others,
        a_claim_and_a_cancel_at_once_agree,
        a_job_that_is_done_is_not_found,;
    list:
        jobs_are_listed_in_the_order_of_the_queue,
        every_filter_names_what_it_gives,
        pages_have_no_gap_and_no_double_while_others_move,
        a_page_holds_no_more_than_its_limit,
        a_page_of_large_payloads_is_short,
        a_bad_query_names_the_field,;
    purge:
        what_waits_is_purged_and_nothing_else,
        a_purge_takes_only_the_state_and_the_priority_it_names,
        running_jobs_are_cancelled_only_if_asked_for,
        a_backlog_is_purged_while_the_queue_is_used,
        an_unknown_queue_is_not_found,
        an_empty_queue_can_be_removed,
        a_queue_that_holds_a_job_is_kept,;
    edit_dead:
        an_edited_letter_is_what_the_next_attempt_gets,
        an_edit_of_nothing_changes_nothing,
        a_large_payload_may_become_small_and_a_small_one_large,
        only_a_dead_letter_can_be_edited,
        an_edit_beyond_a_limit_names_the_field_and_changes_nothing,;
    bulk_dead:
        many_are_replayed_by_filter_or_by_ids,
        many_are_purged_by_filter_or_by_ids,
        a_dry_run_changes_nothing,
        a_bulk_call_beyond_its_limits_names_the_field,
        a_replay_with_a_rate_goes_on_in_the_background,
        a_replay_stops_when_too_many_die_again,
        a_replay_that_was_stopped_stays_so,;
    queues:
        counts_equal_a_full_count_through_a_whole_life,
        queues_are_listed_by_name,
        a_queue_of_odd_name_can_be_asked_for,
        the_oldest_ready_job_tells_the_age,
        what_happened_in_the_last_minute_is_told,;
    pause:
        a_paused_queue_takes_jobs_and_hands_out_none,
        running_jobs_of_a_paused_queue_go_on,
        a_resumed_queue_wakes_a_waiting_claim,
        only_a_queue_that_is_there_can_be_paused,;
    limits:
        no_more_jobs_run_at_once_than_the_queue_lets,
        an_ack_that_rides_along_wakes_an_earlier_claim,
        a_rate_lets_a_burst_through_and_then_wakes_a_claim_for_each_token,
        limits_of_a_new_queue_make_it_and_others_are_not_limited,
        a_limit_that_makes_no_sense_names_the_field,;
    payload:
        json_is_kept_byte_for_byte,
        any_bytes_are_kept,
        a_large_payload_is_kept_in_all_its_parts,
        a_payload_over_1_mib_is_too_large,
        a_large_payload_leaves_nothing_behind,
        headers_are_kept,;
    shared_keys:
        jobs_of_an_ordering_key_run_one_after_the_other,
        jobs_of_a_concurrency_key_run_as_many_as_may,
        a_bad_shared_key_names_the_field,;
    unique:
        a_replay_of_many_leaves_out_those_whose_key_is_held,
        a_second_job_with_the_key_is_refused_and_told_the_holder,
        the_holder_is_returned_as_it_is_now,
        a_waiting_holder_is_replaced_and_a_running_one_is_not,
        a_key_is_free_when_its_job_is_dead_or_its_time_is_over,
        a_batch_with_a_conflict_is_refused_whole,
        a_batch_returns_and_replaces_in_its_order,
        a_call_repeated_gets_the_first_answer,
        a_call_that_was_refused_is_not_remembered,
        a_bad_key_names_the_field,;
    expiry:
        a_job_that_nobody_starts_in_time_is_dead,
        a_job_that_was_started_never_expires,
        a_replayed_job_that_expired_expires_no_more,;
    result:
        a_result_is_kept_byte_for_byte,
        without_a_result_nothing_is_kept,
        results_ride_along_with_many_acks,
        a_large_result_is_refused_and_the_job_runs_on,
        a_lost_lease_gives_no_result,;
}

promises_over_a_restart! {
    cancel:
        a_cancelled_job_stays_cancelled,;
    shared_keys:
        turns_and_lines_live_on,;
    unique:
        keys_and_answers_live_on,;
    expiry:
        what_expired_meanwhile_is_dead_when_opened,;
    result:
        a_result_lives_on,;
    purge:
        purged_jobs_and_removed_queues_stay_away,;
    restart:
        a_lease_and_its_token_live_on,
        progress_and_worker_are_kept,
        waiting_jobs_keep_their_order,
        a_timer_that_came_due_meanwhile_fires,
        a_timer_still_to_come_is_kept,
        dead_letters_are_kept,
        interruptions_and_attempts_are_kept,
        an_old_token_stays_dead,
        ids_go_on_rising,
        counts_and_large_payloads_are_kept,
        a_paused_queue_stays_paused,
        limits_stay_and_give_no_second_burst,
        an_edited_letter_is_kept,
        a_background_replay_goes_on,;
}

/// The moment now, by the clock that the queue reads too.
fn now() -> pulk::Timestamp {
    use pulk::clock::Clock;
    pulk::clock::SystemClock.now()
}

/// What the queue says of a job.
async fn state_of(queue: &Harness, id: pulk::JobId) -> Option<pulk::JobState> {
    match queue.job(id).await {
        Ok(job) => Some(job.state),
        Err(error) => {
            assert_eq!(error.kind(), pulk::ErrorKind::NotFound);
            None
        }
    }
}
