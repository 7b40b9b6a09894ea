"""Patches librdkafka's source tree (first argument), and fails if it is not what we expect.

rd_kafka_send_offsets_to_transaction() does not keep its time limit. Its second request waits until
the group's coordinator is known and up. It is looked at again only when some broker's connection
changes, and the limit that it was given is set and never read: so the call stands for as long as
nothing happens to a connection, ten minutes say. Here a timer looks at each such request every half
second, and one whose time is over fails with "timed out", which its callers handle already. And once
sent, both requests of the call have socket.timeout.ms, however little is left: here what is left.
To be dropped when a release checks the limits itself.

And the process ends by SIGSEGV when a broker comes back: where it does not know a partition's
leader yet, a fetch response names the leader -1. Such a partition is counted among those with a new
leader and then left out, so that the list has an entry that nobody wrote. Here only leaders that are
named count, in produce responses too. To be dropped when a release counts so itself.

And a client stays cut off for ever after its last broker was stopped in order. A broker that goes may
answer a metadata request with a list of no brokers. Then the client gives up all that it knows, the
one it was bootstrapped from too, and never asks anybody again. Here an empty list changes nothing:
what is known is tried until it answers. To be dropped when a release does so itself (its issue 5301).
"""

import pathlib
import sys

EVERY_US = 500_000

# (file, what is there exactly once, what goes in its place)
CHANGES = (
    (
        "src/rdkafka_fetcher.c",
        "                TopicTags->partitions_with_leader_change_cnt++;\n",
        "                if (PartitionTags->CurrentLeader.LeaderId >= 0)\n"
        "                        TopicTags->partitions_with_leader_change_cnt++;\n",
    ),
    (
        "src/rdkafka_request.c",
        "                ProduceTags->leader_change_cnt++;\n",
        "                if (PartitionTags->CurrentLeader.LeaderId >= 0)\n"
        "                        ProduceTags->leader_change_cnt++;\n",
    ),
    (
        "src/rdkafka_metadata.c",
        """        rd_list_t brokers_to_decommission;
        int i;

        rd_kafka_wrlock(rk);
""",
        """        rd_list_t brokers_to_decommission;
        int i;

        if (md->broker_cnt == 0)
                return; /* Of a broker that is going: nobody is left out. */

        rd_kafka_wrlock(rk);
""",
    ),
    (
        "src/rdkafka_coord.h",
        "        rd_kafka_timer_t creq_tmr;      /**< Delay timer. */\n",
        "        rd_kafka_timer_t creq_tmr;      /**< Delay timer. */\n"
        "        rd_kafka_timer_t creq_look_tmr; /**< Looks at it again. */\n",
    ),
    (
        "src/rdkafka_coord.c",
        "/**\n * @brief Look up coordinator for \\p coordtype and \\p coordkey\n",
        f"""\
/* Started anew before each look, since the look may free the request. */
static void rd_kafka_coord_req_look_cb(rd_kafka_timers_t *rkts, void *arg) {{
        rd_kafka_coord_req_t *creq = arg;

        rd_kafka_timer_start_oneshot(rkts, &creq->creq_look_tmr, rd_true,
                                     {EVERY_US}, rd_kafka_coord_req_look_cb,
                                     creq);
        /* Who the coordinator is has been asked: the answer goes on. */
        if (creq->creq_refcnt > 1 &&
            !rd_timeout_expired(rd_timeout_remains(creq->creq_ts_timeout)))
                return;
        rd_kafka_coord_req_fsm(rkts->rkts_rk, creq);
}}


/**
 * @brief Look up coordinator for \\p coordtype and \\p coordkey
""",
    ),
    (
        "src/rdkafka_coord.c",
        "        TAILQ_INSERT_TAIL(&rk->rk_coord_reqs, creq, creq_link);\n",
        f"""\
        TAILQ_INSERT_TAIL(&rk->rk_coord_reqs, creq, creq_link);
        rd_kafka_timer_start_oneshot(&rk->rk_timers, &creq->creq_look_tmr,
                                     rd_true, {EVERY_US},
                                     rd_kafka_coord_req_look_cb, creq);
""",
    ),
    (
        "src/rdkafka_coord.c",
        "                rd_kafka_timer_stop(&rk->rk_timers, &creq->creq_tmr,\n"
        "                                    RD_DO_LOCK);\n",
        """\
                rd_kafka_timer_stop(&rk->rk_timers, &creq->creq_tmr,
                                    RD_DO_LOCK);
                rd_kafka_timer_stop(&rk->rk_timers, &creq->creq_look_tmr,
                                    RD_DO_LOCK);
""",
    ),
    (
        "src/rdkafka_coord.c",
        "        /* Check cache first */\n",
        """\
        if (rd_timeout_expired(rd_timeout_remains(creq->creq_ts_timeout))) {
                rd_kafka_coord_req_fail(rk, creq,
                                        RD_KAFKA_RESP_ERR__TIMED_OUT);
                return;
        }

        /* Check cache first */
""",
    ),
    (
        "src/rdkafka_txnmgr.c",
        """        rkbuf->rkbuf_max_retries = RD_KAFKA_REQUEST_MAX_RETRIES;

        rd_kafka_broker_buf_enq_replyq(rkb, rkbuf, replyq, resp_cb,
                                       reply_opaque);
""",
        """        rkbuf->rkbuf_max_retries = RD_KAFKA_REQUEST_MAX_RETRIES;
        rd_kafka_buf_set_abs_timeout(
            rkbuf, rd_timeout_remains(rko->rko_u.txn.abs_timeout), 0);

        rd_kafka_broker_buf_enq_replyq(rkb, rkbuf, replyq, resp_cb,
                                       reply_opaque);
""",
    ),
    (
        # The only caller, one of the call's two steps, gives its rko as `opaque`.
        "src/rdkafka_request.c",
        """        /* Group Id */
        rd_kafka_buf_write_str(rkbuf, group_id, -1);

        rd_kafka_buf_ApiVersion_set(rkbuf, ApiVersion, 0);

        rkbuf->rkbuf_max_retries = RD_KAFKA_REQUEST_MAX_RETRIES;
""",
        """        /* Group Id */
        rd_kafka_buf_write_str(rkbuf, group_id, -1);

        rd_kafka_buf_ApiVersion_set(rkbuf, ApiVersion, 0);

        rkbuf->rkbuf_max_retries = RD_KAFKA_REQUEST_MAX_RETRIES;
        rd_kafka_buf_set_abs_timeout(
            rkbuf,
            rd_timeout_remains(
                ((const rd_kafka_op_t *)opaque)->rko_u.txn.abs_timeout),
            0);
""",
    ),
)


# Set there and read nowhere: so it is not checked yet.
LIMIT = ("src/rdkafka_coord.c", "creq_ts_timeout")


def main() -> None:
    root = pathlib.Path(sys.argv[1])
    if (root / LIMIT[0]).read_text().count(LIMIT[1]) != 1:
        sys.exit(f"{root / LIMIT[0]}: {LIMIT[1]} is used elsewhere too: the source changed, see "
                 "whether it is checked now and this patch can go")
    for file, expected, replacement in CHANGES:
        path = root / file
        source = path.read_text()
        if source.count(expected) != 1:
            first = expected.strip().splitlines()[0]
            sys.exit(f"{path}: expected exactly once what begins with {first!r}: the source "
                     "changed, see whether it has this defect still")
        path.write_text(source.replace(expected, replacement))


if __name__ == "__main__":
    main()
