"""Every query in README and docs/ runs on the published tables."""

import re
from pathlib import Path

from orchestration.snapshot.reader import open_snapshot
from orchestration.snapshot.writer import publish
from tests.support.warehouses import AT, MakeWarehouse

ORDER = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m1",
    "userId": "u1",
    "receivedAt": "2026-05-01T10:00:00Z",
    "properties": {"order_id": "o1", "total": 42.5, "currency": "EUR"},
}
ORPHAN = {"type": "track", "event": "Viewed", "messageId": "m2"}


def queries(project: Path) -> list[tuple[str, str]]:
    """Yield page and statement: arguments of `loomline sql`, and blocks of SQL."""
    found = []
    for path in [project / "README.md", *sorted((project / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        asked = re.findall(r'loomline sql (?:--json )?"([^"]+)"', text)
        blocks = re.findall(r"^```sql\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        asked += [block for block in blocks if "{{" not in block]  # of a model
        found += [(path.name, query) for query in asked]
    return found


def test_every_query_shown_is_answered(
    make_warehouse: MakeWarehouse, project_path: Path
) -> None:
    warehouse = make_warehouse()
    warehouse.land([ORDER, ORPHAN], "web")
    warehouse.build()
    publish(warehouse.home, at=AT)
    asked = queries(project_path)
    assert {page for page, _ in asked} == {
        *("README.md", "deploy.md", "event-tables.md", "published.md")
    }
    with open_snapshot(warehouse.home) as snapshot:
        for _, query in asked:
            snapshot.execute(query).fetchall()
