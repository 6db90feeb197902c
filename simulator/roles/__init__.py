"""Who is who in a matrix product: GEMM role, operand roles and module, found without help."""

from .product import Product
from .roles import Roles

__all__ = ["Product", "Roles"]
