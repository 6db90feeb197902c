"""What becomes of every operation of PyTorch on a chip."""

# Each declares its operations.
from . import activations as activations
from . import batch_norm as batch_norm
from . import elementwise as elementwise
from . import gradient_scaler as gradient_scaler
from . import indexing as indexing
from . import losses as losses
from . import normalisation as normalisation
from . import optimizers as optimizers
from . import pooling as pooling
from . import resizing as resizing
from . import softmax as softmax
from . import statistics as statistics
from .declared import UndeclaredOperation, base_name, declared, register_op, undeclared
from .forms import each_in_list, functional_form
from .results import result_dtypes, written
from .tables import POINTWISE

__all__ = [
    "POINTWISE",
    "UndeclaredOperation",
    "base_name",
    "declared",
    "each_in_list",
    "functional_form",
    "register_op",
    "result_dtypes",
    "undeclared",
    "written",
]
