"""arra_med: language models that draw medical images from reports, and how well they draw.

Importing this package is cheap: it does not import torch. Each stage lives in its own module;
``arra-med --help`` lists them.
"""

from arra_med._version import __version__

__all__ = ["__version__"]
