"""What setup.cfg cannot say: the optional compiled modules. Without Cython or a C compiler PostgreSQL is slower, and that is all."""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    extensions = []
else:
    sources = {
        "relays._straight": "relays/_straight.pyx",
        "relays.postgres._frames": "relays/postgres/_frames.pyx",
        "relays.postgres.fast_path._core": "relays/postgres/fast_path/_core.pyx",
        "relays.ssh._gcm": "relays/ssh/_gcm.pyx",
        "rules.masking._needles": "rules/masking/_needles.pyx",
    }
    extensions = cythonize([Extension(name, [path]) for name, path in sources.items()], build_dir="build", quiet=True)
    for extension in extensions:
        extension.optional = True  # a failing compiler is a warning; cythonize drops the mark from what it is given

setup(ext_modules=extensions)
