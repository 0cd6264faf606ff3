"""Find, download, check and read pretrained weights. Code in weights files is never run."""

from its.interfaces import Download
from its.weights.downloads import download, prepare
from its.weights.hub import Pin, pin
from its.weights.pretrained import PretrainedComponent
from its.weights.source import Source, WeightsNotFound

__all__ = ["Download", "Pin", "PretrainedComponent", "Source", "WeightsNotFound", "download", "pin", "prepare"]
