"""From probabilities to scores: decoding, event matching, F-scores, the metric, predictions, floors, breakdowns."""

from mmcse.evaluation.breakdown import duration_bins, duration_breakdown
from mmcse.evaluation.decode import Gate, decode, decode_output
from mmcse.evaluation.events import Events, Matches, find_events, match_events
from mmcse.evaluation.floors import reference_rows
from mmcse.evaluation.fscores import SCORE_KEYS, parsing_scores, per_class_scores, video_level_f1
from mmcse.evaluation.metric import ParsingMetric
from mmcse.evaluation.predictions import read_predictions, save_predictions, score_predictions
from mmcse.evaluation.table import Kind, score_rows, score_table

__all__ = [
    "SCORE_KEYS",
    "Events",
    "Gate",
    "Kind",
    "Matches",
    "ParsingMetric",
    "decode",
    "decode_output",
    "duration_bins",
    "duration_breakdown",
    "find_events",
    "match_events",
    "parsing_scores",
    "per_class_scores",
    "read_predictions",
    "reference_rows",
    "save_predictions",
    "score_predictions",
    "score_rows",
    "score_table",
    "video_level_f1",
]
