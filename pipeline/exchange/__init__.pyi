from .errors import ExchangeError as ExchangeError
from .exporting import EXPORT_SUFFIXES as EXPORT_SUFFIXES
from .exporting import export_features as export_features
from .importing import ImportedFeatures as ImportedFeatures
from .importing import import_features as import_features
