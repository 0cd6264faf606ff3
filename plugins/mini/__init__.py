"""The embedded pack: tiny models in the package, for use if no other weights are available."""

from pathlib import Path

from its.registry import Pack, register_pack

_HERE = Path(__file__).parent

register_pack(
    Pack(
        name="mini",
        folder=_HERE / "weights",
        config=_HERE / "model.yaml",
        methods={"ScoreDistillation": _HERE / "sds.yaml"},
        summary="tiny experts trained on emoji and synthetic sounds",
        colorizer=_HERE / "colorizer.yaml",
        wrappers={"ControlNet": {"weights": "pack:mini", "subfolder": "controlnet", "revision": None, "variant": None}},
        scorers=("MiniPictureJudge", "MiniSoundJudge"),
    )
)
