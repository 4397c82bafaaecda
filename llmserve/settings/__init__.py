"""The settings: which there are, where their values come from, how they are shown."""

from llmserve.settings.kinds import Device, DType, ModelEngineName, Quantize
from llmserve.settings.settings import ENV_PREFIX, GROUPS, Settings
from llmserve.settings.shown import settings_table, shown
from llmserve.settings.sources import LoadedSettings, load_settings, to_environment

__all__ = [
    "ENV_PREFIX",
    "GROUPS",
    "DType",
    "Device",
    "LoadedSettings",
    "ModelEngineName",
    "Quantize",
    "Settings",
    "load_settings",
    "settings_table",
    "shown",
    "to_environment",
]
