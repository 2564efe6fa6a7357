"""Changes of audiences in a run, from the log of memberships."""

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from connectors.home import Home
from orchestration.pipeline.dbt_runner import open_when_free

__all__ = ["AudienceChange", "last_run_number", "membership_changes"]


Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AudienceChange:
    """An audience that changed in a run; counts of people."""

    audience: str
    members: int
    entered: int
    left: int


def last_run_number(home: Home, say: Say) -> int:
    """The number of the last run that changed an audience; 0 before the first."""
    if not home.warehouse.exists():
        return 0
    with open_when_free(home.warehouse, say, read_only=True) as warehouse:
        try:
            last = warehouse.sql(
                "select max(run_number) from audiences.int_membership_changes"
            ).fetchone()
        except duckdb.CatalogException:
            return 0  # the first run died before it built audiences
    return last[0] or 0 if last else 0


def membership_changes(home: Home, since: int, say: Say) -> list[AudienceChange]:
    """The audiences that changed in runs after that number, by name."""
    with open_when_free(home.warehouse, say, read_only=True) as warehouse:
        rows = warehouse.execute(
            """
            with changed as (
                select
                    audience,
                    count(*) filter (where change = 'enter') as entered,
                    count(*) filter (where change = 'leave') as "left"
                from audiences.int_membership_changes
                where run_number > ?
                group by audience
            ),
            sizes as (
                select audience, count(distinct profile_id) as members
                from audiences.audience_members
                where left_at is null
                group by audience
            )
            select audience, coalesce(members, 0), entered, "left"
            from changed
            left join sizes using (audience)
            order by audience
            """,
            [since],
        ).fetchall()
    return [AudienceChange(*row) for row in rows]
