"""What to hide in responses, and how: JSONPath, headers, query parameters, detectors and injected secrets; whole bodies and streams."""

from rules.masking.detectors import DETECTORS, NAMES, find
from rules.masking.jsonpath import compile_jsonpath
from rules.masking.plan import Plan, compile_plan
from rules.masking.result import Masked, Unmaskable
from rules.masking.streams import Stream
from rules.masking.terminal import TextStream

__all__ = ["DETECTORS", "NAMES", "Masked", "Plan", "Stream", "TextStream", "Unmaskable", "compile_jsonpath", "compile_plan", "find"]
