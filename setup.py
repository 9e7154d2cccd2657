"""Packages of dss-jax: the method, its tasks, the engine, their data files."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')

# Read, not imported: a build has none of the package's requirements.
(VERSION,) = re.findall(
  r"^__version__ = '(.+)'$",
  (ROOT / 'dss_jax' / '__init__.py').read_text(encoding='utf-8'),
  re.MULTILINE,
)

# Lower bounds are the oldest releases that README's first command was run with,
# all of them together.
INSTALL_REQUIRES = [
  'absl-py>=2.1',
  'click>=8.1',
  'clu>=0.0.12',
  'etils[epath]>=1.15',
  'flax>=0.12.8',
  'gin-config>=0.5.0',
  'jax>=0.10.2',
  'jaxtyping>=0.3',
  'numpy>=2.1',
  'optax>=0.2.8',
  'orbax-checkpoint>=0.12.8',
  'rich>=13.7',
  'rouge-score>=0.1.2',
  'sacrebleu>=2.4',
  'safetensors>=0.8.0',
  'sentencepiece>=0.2.0',
  'seqio>=0.0.20',
  'tensorboard>=2.19',
  'tensorflow>=2.21',
  'tensorflow-datasets>=4.9.10',
  'tensorflow-text>=2.21',
  'tensorstore>=0.1.86',
]

# What `dss extract` needs.
EXTRACT_REQUIRES = [
  'aiohttp>=3.14.5',
  'aiolimiter>=1.3.0',
  'matplotlib>=3.9',
  'PyYAML>=6.0.3',
  'tenacity>=9.2.1',
]

# What `dss report` needs.
REPORT_REQUIRES = ['Jinja2>=3.1.5', 'matplotlib>=3.9']

# What `dss study` needs.
STUDY_REQUIRES = [
  *REPORT_REQUIRES,
  'distributed>=2026.8.0',
  'PyYAML>=6.0.3',
]

# Experiment trackers: what a run reports to. MLflow's own store on this machine
# needs a database.
TRACKER_REQUIRES = {
  'mlflow': ['alembic>=1.13', 'mlflow-skinny>=3.17', 'SQLAlchemy>=2.0'],
  'wandb': ['wandb>=0.31'],
}

TEST_REQUIRES = [
  *EXTRACT_REQUIRES,
  *STUDY_REQUIRES,
  'hypothesis>=6.100',
  # Reads the pages whose code blocks are tested.
  'markdown-it-py>=3.0',
  'mypy>=2.4',
  # A terminal of 80 columns, to see what a person sees while waiting.
  'pyte>=0.8.2',
  'pytest>=8.0',
  'pytest-xdist>=3.8',
  'ruff>=0.6',
  # Reads what `dss export` writes.
  'tokenizers>=0.22',
]

EXTRAS_REQUIRE = {
  'extract': EXTRACT_REQUIRES,
  # `transformers serve`, a real server to test it with.
  'extract-test': [
    *EXTRACT_REQUIRES,
    'torch==2.13.0',
    'transformers[serving]>=5.23',
  ],
  'gpu': ['jax[cuda12]>=0.10.2'],
  'tpu': ['jax[tpu]>=0.10.2'],
  # TPU's compiler, for `dss plan`; see `dss_jax/plan/worker.py`.
  'plan': ['libtpu>=0.0.52'],
  # Builds the site of docs/.
  'docs': ['mkdocs-material>=9.6', 'mkdocstrings[python]>=0.30'],
  # Runs docs/notebooks/.
  'notebooks': [
    'ipykernel>=6.29',
    'matplotlib>=3.9',
    'nbclient>=0.10',
    'nbformat>=5.10',
  ],
  'report': REPORT_REQUIRES,
  'study': STUDY_REQUIRES,
  **TRACKER_REQUIRES,
  # The real trackers, on this machine alone.
  'tracker-test': [
    *TEST_REQUIRES,
    *TRACKER_REQUIRES['mlflow'],
    *TRACKER_REQUIRES['wandb'],
  ],
  # Drives Chromium, which the system has, through pages of reports.
  'browser-test': [*TEST_REQUIRES, 'playwright>=1.49'],
  'bench': [
    'ctranslate2>=4.8',
    'matplotlib>=3.9',
    'torch>=2.13.0',
    'transformers>=4.57',
  ],
  'test': TEST_REQUIRES,
  # Plants faults, which the tests have to see; see tests/mutation/README.md.
  'mutation': [*TEST_REQUIRES, 'cosmic-ray>=8.4.6'],
  # What CONTRIBUTING.md asks for.
  'dev': [
    *TEST_REQUIRES,
    'mdformat>=0.7.22',
    'mdformat-gfm>=1.0.0',
    'pre-commit>=4.0',
    'pytest-random-order>=1.1',
  ],
}

# The experiments are edited in `gin/` and travel inside the package
# `dss_jax`, since a top-level `gin` would collide with gin-config's.
GIN_PACKAGES = {
  'dss_jax.gin': 'gin',
  'dss_jax.gin.engine': 'gin/engine',
  'dss_jax.gin.paper': 'gin/paper',
  'dss_jax.gin.sizes': 'gin/sizes',
  'dss_jax.gin.sizes.flan_t5': 'gin/sizes/flan_t5',
  'dss_jax.gin.sizes.t5_1_0': 'gin/sizes/t5_1_0',
  'dss_jax.gin.slices': 'gin/slices',
}

setuptools.setup(
  name='dss-jax',
  version=VERSION,
  description='Distilling Step-by-Step in JAX: train small T5 models on'
  ' labels and rationales of a large teacher, on CPU, GPU or TPU.',
  long_description=README,
  long_description_content_type='text/markdown',
  author='The dss-jax authors',
  license_expression='Apache-2.0',
  license_files=['LICENSE'],
  keywords=[
    'chain-of-thought',
    'jax',
    'knowledge-distillation',
    'rationales',
    'seqio',
    't5',
    't5x',
  ],
  classifiers=[
    'Development Status :: 4 - Beta',
    'Environment :: Console',
    'Environment :: GPU :: NVIDIA CUDA',
    'Intended Audience :: Developers',
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3 :: Only',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
  project_urls={'Paper': 'https://arxiv.org/abs/2305.02301'},
  python_requires='>=3.11,<3.14',
  packages=setuptools.find_packages(
    include=['dss_jax', 'dss_jax.*', 'tasks', 'tasks.*', 't5x', 't5x.*']
  )
  + list(GIN_PACKAGES),
  package_dir=GIN_PACKAGES,
  package_data={
    't5x': ['**/*.gin'],
    'dss_jax': [
      'sample/data/**/*',
      'extract/exemplars/*.yaml',
      'report/templates/*',
      'study/report/templates/*',
    ],
    **{package: ['*.gin'] for package in GIN_PACKAGES},
  },
  include_package_data=False,
  install_requires=INSTALL_REQUIRES,
  extras_require=EXTRAS_REQUIRE,
  entry_points={
    'console_scripts': ['dss = dss_jax.cli:main'],
    't5x.gin_search_paths': ['dss_jax = dss_jax'],
  },
)
