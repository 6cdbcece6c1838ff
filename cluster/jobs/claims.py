"""Which job is run next, in SQL: the one statement that claims it, the hopeless ones, and leases
from a time that the clock has not reached again."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Interval, bindparam, text

from cluster.jobs.job import Job, columns
from cluster.jobs.tables import JOBS

# A user's turn: fewest running jobs, then served longest ago, then the oldest job. A turn counts
# for an hour, so that a stream of users who were never served cannot hold up the others for longer.
# A job that lost its runner has had its turn: it waits as if its user had not been served, so new
# jobs do not hold it up; how often it may come back is limited. Jobs of a user are numbered, so
# that runners that claim at the same moment, each passing over what the others locked, take jobs of
# different users.
_CLAIM: Final = f"""
    with clock as materialized (
      select clock_timestamp() as now
    ), candidates as materialized (
      select waiting.job_id, waiting.user_id, waiting.state,
             row_number() over (
               partition by waiting.user_id order by waiting.created_at, waiting.job_id
             ) as number
      from backtest_jobs waiting
      where waiting.state = 'queued'
         or (waiting.state = 'running' and waiting.lease_expires_at <= clock_timestamp())
    ), users as materialized (
      select waiting.user_id, busy.running, served.at
      from (select distinct candidates.user_id from candidates) waiting
      cross join clock
      cross join lateral (
        select count(*) as running
        from backtest_jobs busy
        where busy.user_id = waiting.user_id and busy.state = 'running'
          and busy.lease_expires_at > clock.now
      ) busy
      cross join lateral (
        select max(served.started_at) as at
        from backtest_jobs served
        where served.user_id = waiting.user_id
          and served.started_at > clock.now - interval '1 hour'
      ) served
    ), picked as materialized (
      select candidate.job_id
      from backtest_jobs candidate
      join candidates on candidates.job_id = candidate.job_id
      join users on users.user_id = candidate.user_id
      where candidate.state = 'queued'
         or (candidate.state = 'running' and candidate.lease_expires_at <= clock_timestamp()
             and candidate.attempt < candidate.max_attempts)
      order by users.running + candidates.number,
               case candidates.state when 'queued' then users.at end nulls first,
               candidate.created_at, candidate.job_id
      limit 1
      for update of candidate skip locked
    )
    update backtest_jobs
    set state = 'running',
        stage = 'stage_a',
        processed_units = 0,
        total_units = 0,
        eta_seconds = null,
        progress_updated_at = null,
        attempt = backtest_jobs.attempt + 1,
        started_at = coalesce(backtest_jobs.started_at, clock.now),
        locked_by = :owner,
        locked_at = clock.now,
        heartbeat_at = clock.now,
        lease_expires_at = clock.now + :lease,
        updated_at = greatest(backtest_jobs.created_at, clock.now)
    from picked, clock
    where backtest_jobs.job_id = picked.job_id
    returning {", ".join(f"backtest_jobs.{name}" for name in columns(Job))}
"""

_EXHAUSTED: Final = f"""
    select {", ".join(f"backtest_jobs.{name}" for name in columns(Job))}
    from backtest_jobs
    where backtest_jobs.state = 'running'
      and backtest_jobs.lease_expires_at <= clock_timestamp()
      and backtest_jobs.attempt >= backtest_jobs.max_attempts
    order by backtest_jobs.lease_expires_at, backtest_jobs.job_id
    limit 100
    for update of backtest_jobs skip locked
"""

_REWOUND: Final = """
    with clock as materialized (
      select clock_timestamp() as now
    ), ahead as materialized (
      select job_id
      from backtest_jobs
      where state = 'running' and heartbeat_at > (select now from clock)
      for update skip locked
    )
    update backtest_jobs
    set lease_expires_at = clock.now + (lease_expires_at - heartbeat_at),
        locked_at = least(locked_at, clock.now - interval '1 microsecond'),
        heartbeat_at = clock.now
    from ahead, clock
    where backtest_jobs.job_id = ahead.job_id
      and backtest_jobs.lease_expires_at > backtest_jobs.heartbeat_at
"""

_COLUMNS: Final = tuple(JOBS.c[name] for name in columns(Job))

CLAIM: Final = text(_CLAIM).bindparams(bindparam("lease", type_=Interval())).columns(*_COLUMNS)
"""Claims a job for `owner` for `lease` and returns its columns, or no row."""

EXHAUSTED: Final = text(_EXHAUSTED).columns(*_COLUMNS)
"""Locks the jobs that lost their runner for the last time and returns their columns."""

REWOUND: Final = text(_REWOUND)
"""Makes leases that a clock put back has made longer last for what they had left, from now on."""
