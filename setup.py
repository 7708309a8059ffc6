"""What setup.cfg cannot say: the optional compiled module. Without Cython or a C compiler masked rows are slower, and that is all."""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    extensions = []
else:
    extensions = cythonize([Extension("relays.postgres._frames", ["relays/postgres/_frames.pyx"])], build_dir="build", quiet=True)
    for extension in extensions:
        extension.optional = True  # a failing compiler is a warning; cythonize drops the mark from what it is given

setup(ext_modules=extensions)
