from .plots import confusion_counts as confusion_counts
from .plots import confusion_map as confusion_map
from .plots import correlation_maps as correlation_maps
from .plots import correlations as correlations
from .plots import few_shot_curves as few_shot_curves
from .plots import loss_curve as loss_curve
from .plots import save_figure as save_figure
from .saliency import saliency_strip as saliency_strip
