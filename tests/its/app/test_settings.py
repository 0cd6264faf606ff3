"""The form's values as arguments of the pipeline, and back from records."""

from dataclasses import replace

import pytest

from its.app.settings import Settings, arguments_of, defaults_of, settings_from
from its.errors import UserError
from its.pipeline import Pipeline
from its.specs.spec import assign_ids


@pytest.fixture(scope="module")
def pipeline():
    small = {"model.canvas": [256, 256], "model.steps": 2, "trainer.accelerator": "cpu"}
    return Pipeline.from_config("castle_bell", "models/mini", overrides=small)


def specs(pipeline, settings, **options):
    arguments = arguments_of(settings, pipeline, **{"seeds": [settings.seed], **options})
    grid = pipeline._grid(
        arguments["prompts"], arguments["seeds"], arguments["negative_prompts"], arguments["guidance_scale"]
    )
    grid.sweep = arguments["sweep"]
    return assign_ids(grid.expand(pipeline.method.expert_names), pipeline.method.definition)


def config_of(pipeline, spec):
    from its.runs.replay import sample_config

    return sample_config(spec, pipeline.config, precision="32-true")


def test_the_config_s_own_values_give_the_config_s_own_samples(pipeline):
    defaults = defaults_of(pipeline)
    assert (defaults.steps, defaults.balance, defaults.lead) == (2, 60, -20)
    assert arguments_of(defaults, pipeline, seeds=[1])["sweep"] == {}
    (spec,) = specs(pipeline, defaults)
    (expected,) = assign_ids(pipeline.defaults.expand(pipeline.method.expert_names)[:1], pipeline.method.definition)
    assert spec.id == expected.id


CHANGED = {
    "visual": "tigers",
    "audio": "growling",
    "not_visual": "dogs",
    "seed": 7,
    "steps": 3,
    "guidance_visual": 2.5,
    "balance": 30.0,
    "lead": 25.0,
}


def test_changed_values_reach_the_sample_and_come_back_from_its_record(pipeline):
    settings = replace(defaults_of(pipeline), **CHANGED)
    (spec,) = specs(pipeline, settings)
    process = pipeline.method.process_of(spec)
    assert process.steps == 3
    assert process.combiner.weights(0.0) == {"visual": 0.0, "audio": 1.0}
    assert process.combiner.weights(0.9) == pytest.approx({"visual": 0.7, "audio": 0.3})
    restored, notes = settings_from(config_of(pipeline, spec), pipeline.method.provenance, pipeline)
    assert restored == settings
    assert notes == []


def test_more_like_this_differs_in_the_balance_alone(pipeline):
    found = specs(pipeline, defaults_of(pipeline), balances=[40.0, 80.0])
    weights = [pipeline.method.process_of(spec).combiner.weights(0.9)["audio"] for spec in found]
    assert weights == pytest.approx([0.4, 0.8])
    assert len({(spec.seed, *spec.prompts.values()) for spec in found}) == 1
    assert len({pipeline.method.batch_key(spec) for spec in found}) == 1


def test_before_the_weights_are_loaded_the_config_s_values_are_used(pipeline):
    unset = Settings(visual="tigers", audio="growling", seed=3)
    (spec,) = specs(pipeline, unset)
    assert spec.guidance_scale == {"visual": 6.0, "audio": 9.0}
    assert not spec.settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"visual": "  "}, "picture is empty"),
        ({"steps": 0}, "steps is 0"),
        ({"balance": 100.0}, "balance is 100"),
        ({"lead": float("nan")}, "lead is nan"),
        ({"guidance_audio": 1e9}, "guidance is"),
    ],
)
def test_values_out_of_range_are_refused(pipeline, change, said):
    with pytest.raises(UserError, match=said):
        arguments_of(replace(defaults_of(pipeline), **change), pipeline, seeds=[1])


def test_what_can_t_be_restored_is_said(pipeline):
    (spec,) = specs(pipeline, defaults_of(pipeline))
    config = config_of(pipeline, spec)
    config["model"] = {**config["model"], "canvas": [256, 512]}
    config["data"]["prompts"][0]["start"] = {"image": "/etc/passwd"}
    _, notes = settings_from(config, {"experts.visual": {"name": "some/model", "sha256": "0"}}, pipeline)
    text = "; ".join(notes)
    assert "canvas" in text
    assert "start" in text
    assert "some/model" in text


@pytest.mark.parametrize("row", [{}, {"visual": 3, "audio": "x"}, "text", {"other": "x"}])
def test_records_of_other_experts_are_refused(pipeline, row):
    config = {"model": {}, "data": {"prompts": [row]}}
    with pytest.raises(UserError, match="prompt"):
        settings_from(config, {}, pipeline)


def test_odd_values_of_a_record_are_left_out(pipeline):
    row = {"visual": "a", "audio": "b", "seed": "x", "guidance_scale": [1], "negative_prompts": None}
    config = {"model": {"combiner": {"init_args": {"weights": {"visual": "x"}, "t": 3}}, "steps": True}, "data": {}}
    config["data"] = {"prompts": [row], "sweep": {"steps": [], "combiner.t.visual": [None], "combiner": [1]}}
    restored, _ = settings_from(config, None, pipeline)
    defaults = defaults_of(pipeline)
    assert (restored.steps, restored.seed) == (defaults.steps, defaults.seed)
