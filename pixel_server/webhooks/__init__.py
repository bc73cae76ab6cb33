"""Webhooks: events that this server sends to endpoints of its users, by the Standard Webhooks specification.

The way of an event:

    roll-up --commit--> outbox {shard} --move--> queue of each endpoint {all} --claim--> POST --> done
    privacy, milestones, health ---> notices {all} --move-->                        `--> later, or set aside

An event gets its id and its place in an outbox in the script that makes it true: the commit that counts the
hit, or the script that stores the withdrawal. So each event is in an outbox once. It is moved to the queue of
each endpoint that wants it, by its id, and only then leaves the outbox: a move that is cut short is repeated
without harm. An event leaves a queue when its endpoint has answered 2xx. So it arrives at least once, and
always under the same id. `workers.courier` moves and sends.

`event` is what happened, `endpoint` and `storage` are where it is sent, `outbox`, `queue` and `deliveries`
hold it, `signing`, `target` and `request` send it, `purge` removes what must not be sent any more, and
`health` finds the troubles of the server. Milestones are in `workers.milestones`.
"""
