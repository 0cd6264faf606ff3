"""The embedded pack: two small experts, a codec and a text encoder, so that the main job runs everywhere."""

from pathlib import Path

from its.registry import Pack, register_pack

_HERE = Path(__file__).parent

register_pack(
    Pack(
        name="mini",
        folder=_HERE / "weights",
        config=_HERE / "model.yaml",
        methods={"ScoreDistillation": _HERE / "sds.yaml"},
        summary="tiny experts that know some emoji and synthetic sounds",
        colorizer=_HERE / "colorizer.yaml",
        scorers=("MiniPictureJudge", "MiniSoundJudge"),
    )
)
