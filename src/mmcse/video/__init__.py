"""From a video file to features: decoding, encoders, extraction.

Nothing here imports av or transformers before it is used; both come with `pip install 'mmcse[video]'`.
"""

from mmcse.video.container import VideoError
from mmcse.video.decode import Clip, clips
from mmcse.video.extractor import FeatureExtractor, WindowFeatures

__all__ = ["Clip", "FeatureExtractor", "VideoError", "WindowFeatures", "clips"]
