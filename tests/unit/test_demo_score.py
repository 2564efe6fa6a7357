"""How an assignment of identifiers is held against the truth of the demo."""

from pathlib import Path

from orchestration.demo.forms_and_webhooks import read_requests
from orchestration.demo.generator import AS_OF, generate
from orchestration.demo.last_login import last_user_wins, read_lines
from orchestration.demo.truth import Person, Truth, score


def test_the_naive_way_is_visibly_wrong(tmp_path: Path) -> None:
    truth = generate(tmp_path, events=20_000, seed=7, as_of=AS_OF)
    calls = last_user_wins(read_lines(tmp_path), read_requests(tmp_path))
    found = score(truth, calls)
    assert found.absent == 0
    assert found.wrong_fusions >= 10
    assert found.fused_people >= 60


def test_score_counts_fusions_and_splits() -> None:
    ann = Person("ann", False, (("user_id", "a"), ("email", "a@x"), ("phone", "+1")))
    bob = Person("bob", False, (("user_id", "b"), ("anonymous_id", "d")))
    truth = Truth(people=(ann, bob), shared_devices=(), hub_emails=())
    right = {
        one: person.person_id for person in (ann, bob) for one in person.identifiers
    }
    assert score(truth, right).wrong_fusions == score(truth, right).missed == 0
    wrong = {**right, ("anonymous_id", "d"): "ann", ("email", "a@x"): "other"}
    del wrong["phone", "+1"]
    found = score(truth, wrong)
    assert (found.wrong_fusions, found.fused_people) == (1, 2)
    assert (found.missed, found.split_people, found.absent) == (3, 2, 1)
