import itertools
import json

import pytest

from its.errors import UserError
from its.specs.prompts import PromptGrid, SeedRange

EXPERTS = ["visual", "audio"]
ROW = {"visual": "a castle", "audio": "a bell"}


def expand(**arguments):
    return PromptGrid(**{"prompts": [ROW], **arguments}).expand(EXPERTS)


def test_every_prompt_meets_every_seed_in_order():
    rows = expand(prompts=[ROW, {"visual": "a dog", "audio": "barking"}], seeds=[5, 3])
    assert [(r.prompts["visual"], r.seed) for r in rows] == [
        ("a castle", 5), ("a castle", 3), ("a dog", 5), ("a dog", 3),
    ]  # fmt: skip


def test_lists_of_prompts_span_their_combinations():
    rows = expand(prompts={"visual": ["a", "b"], "audio": ["x", "y", "z"]})
    assert [(r.prompts["visual"], r.prompts["audio"]) for r in rows] == [(v, a) for v in "ab" for a in "xyz"]


@pytest.mark.parametrize("seeds", [SeedRange(start=7, count=3), {"start": 7, "count": 3}, [7, 8, 9]])
def test_seeds_are_a_list_or_a_range(seeds):
    assert [r.seed for r in expand(seeds=seeds)] == [7, 8, 9]


MANY = {"visual": [str(n) for n in range(2000)], "audio": [str(n) for n in range(2000)]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": {"start": 0, "count": 10**9}}, "make 1,000,000,000 samples; expected at most 1,000,000"),
        ({"seeds": SeedRange(start=0, count=10**40)}, "expected at most 1,000,000"),
        ({"prompts": [{**ROW, "seeds": {"start": 0, "count": 10**30}}]}, "row 1: the seeds make"),
        ({"prompts": MANY}, "data.prompts make 4,000,000 samples"),
        (
            {"sweep": {"steps": [*range(1, 4000)], "guidance_scale": [*range(1, 4000)]}},
            "15992001 points of data.sweep",
        ),
        ({"sweep": {"steps": [*range(1, 2000)]}, "seeds": {"start": 0, "count": 2000}}, "x 2000 prompts and seeds"),
        ({"prompts": [{**ROW, "visual": "x" * 2_000_000}]}, "prompt of visual has 2,000,000 characters"),
        ({"negative_prompts": {"audio": "x" * 2_000_000}}, "negative prompt of audio has 2,000,000 characters"),
    ],
)
def test_counts_are_multiplied_before_anything_is_made(arguments, message):
    with pytest.raises(UserError) as refused:
        expand(**arguments)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 400


def test_settings_of_a_row_beat_those_of_the_file():
    row = ROW | {"seeds": [4], "negative_prompts": {"visual": "text"}, "guidance_scale": {"audio": 2}}
    (made,) = expand(prompts=[row], seeds=[1, 2], guidance_scale={"visual": 5.0, "audio": 6.0})
    assert made.seed == 4
    assert made.negative_prompts == {"visual": "text", "audio": ""}
    assert made.guidance_scale == {"visual": 5.0, "audio": 2.0}


def test_guidance_is_the_papers_where_none_is_given():
    assert expand()[0].guidance_scale == {"visual": 10.0, "audio": 10.0}


FILES = {
    "rows.jsonl": json.dumps({**ROW, "guidance_scale": {"visual": 3}, "seed": 9}) + "\n\n",
    "rows.csv": "visual,audio,guidance_scale.visual,seed\na castle,a bell,3,9\n",
    "rows.yaml": "- {visual: a castle, audio: a bell, guidance_scale: {visual: 3}, seed: 9}\n",
}


@pytest.mark.parametrize("name", FILES)
def test_the_three_file_formats_say_the_same(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    (row,) = expand(prompts=str(tmp_path / name))
    assert (row.prompts, row.seed, row.guidance_scale["visual"]) == (ROW, 9, 3.0)
    assert row.source == f"{tmp_path / name}, row 1"


def test_a_column_of_seeds(tmp_path):
    (tmp_path / "p.csv").write_text("visual,audio,seeds\na,b,12\nc,d,3 4\n")
    assert [row.seed for row in expand(prompts=str(tmp_path / "p.csv"))] == [12, 3, 4]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"visual": "a"', r"p.jsonl, line 1: not JSON"),
        ("p.csv", "visual,audio\nonly one\n", r"p.csv, line 2: expected 2 columns"),
        ("p.yaml", "- [", r"p.yaml: not YAML"),
        ("p.yaml", "- 3", r"p.yaml, row 1: expected a row .* got 3"),
        ("p.jsonl", '{"visual": "a", "audo": "b"}', r"row 1: unknown expert audo.*Did you mean audio\?"),
        ("p.jsonl", '{"visual": "a"}', r"row 1: the prompt of expert audio is None"),
        ("p.jsonl", "", r"expected a list of rows"),
        ("p.txt", "", r"file ending in .jsonl, .csv, .yaml"),
        ("p.jsonl", '{"visual": "a", "audio": "b", "seed": "x"}', r"row 1: seeds are \['x'\]"),
        ("p.jsonl", '{"visual": "a", "audio": "b", "seed": -1}', r"row 1: seed -1 is out of range"),
        ("p.jsonl", '{"visual": "a", "audio": "b", "guidance_scale": {"audio": "loud"}}', r"audio is 'loud'"),
        (
            "p.jsonl",
            '{"visual": "a", "audio": "b", "guidance_scale": 3}',
            r"guidance_scale: expected a value for each",
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_row(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        expand(prompts=str(tmp_path / name))


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere.jsonl: the prompt file can't be read"):
        expand(prompts="nowhere.jsonl")


@pytest.mark.parametrize("key", ["guidance_scale", "negative_prompts"])
def test_settings_for_an_unknown_expert_are_refused(key):
    with pytest.raises(UserError, match=rf"data.{key}: unknown expert visuel.*Did you mean visual"):
        expand(**{key: {"visuel": 1.0}})


def shared_out(ranks, *, chosen):
    """Return the seeds (of 1 to 7) on each rank; only rank 0 has `chosen`, the indices of open rows."""

    class Strategy:
        def broadcast(self, chosen):
            self.told = chosen if rank == 0 else self.told
            return self.told

    class Rank:
        world_size = ranks
        strategy = Strategy()

    seen = []
    for rank in range(ranks):
        data = PromptGrid(prompts=[ROW], seeds=list(range(1, 8)), batch_size=2)
        data.rows = data.expand(EXPERTS)
        data.open_indices = chosen if rank == 0 else None
        data.trainer = Rank()
        data.trainer.global_rank = rank
        seen.append([row.seed for batch in data.predict_dataloader() for row in batch])
    return seen


@pytest.mark.parametrize("ranks", [1, 2, 5, 9])
def test_ranks_share_the_rows_without_repeat_or_loss(ranks):
    assert sorted(itertools.chain(*shared_out(ranks, chosen=None))) == [1, 2, 3, 4, 5, 6, 7]


def test_open_samples_are_distributed_evenly():
    assert shared_out(2, chosen=[0, 2, 4, 6]) == [[1, 5], [3, 7]]  # by index parity, rank 0 would have all four
    assert shared_out(2, chosen=[]) == [[], []]


@pytest.mark.parametrize(
    ("device", "count", "sizes"),
    [("cuda", 40, [14, 14, 12]), ("cuda", 16, [16]), ("cuda", 3, [3]), ("cpu", 5, [2, 2, 1])],
)
def test_automatic_batches_are_about_equal(device, count, sizes):
    data = PromptGrid(prompts=[ROW], seeds=SeedRange(start=0, count=count))
    data.fix_batch_size(device)
    data.rows = data.expand(EXPERTS)
    assert [len(batch) for batch in data.predict_dataloader()] == sizes


def test_methods_that_gain_nothing_by_batches_get_none():
    data = PromptGrid(prompts=[ROW], seeds=SeedRange(start=0, count=3))
    data.fix_batch_size("cuda", one_by_one=True)
    data.rows = data.expand(EXPERTS)
    assert [len(batch) for batch in data.predict_dataloader()] == [1, 1, 1]


def test_a_given_batch_size_is_kept():
    data = PromptGrid(prompts=[ROW], seeds=SeedRange(start=0, count=5), batch_size=4)
    data.fix_batch_size("cuda")
    data.rows = data.expand(EXPERTS)
    assert [len(batch) for batch in data.predict_dataloader()] == [4, 1]
