from .importing import Imported as Imported
from .importing import import_model as import_model
from .read import ReleasedError as ReleasedError
