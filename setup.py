"""Only what setup.cfg cannot say: the optional compiled module. Without Cython or a C compiler the package is whole, and slower on masked rows."""

from setuptools import Extension, setup

SOURCE = "relays/postgres/_frames.pyx"

try:
    from Cython.Build import cythonize
except ImportError:
    extensions = []
else:
    extensions = cythonize([Extension("relays.postgres._frames", [SOURCE], optional=True)], build_dir="build", quiet=True)

setup(ext_modules=extensions)
