from bench.api.gates import Comparison as Comparison
from bench.api.gates import ab as ab
from bench.api.gates import check as check
from bench.api.gates import compare as compare
from bench.api.runs import Run as Run
from bench.api.runs import load as load
from bench.api.runs import run as run
from bench.errors import BenchError as BenchError
from bench.errors import IncomparableError as IncomparableError
from bench.errors import ResultsError as ResultsError
from bench.errors import UsageError as UsageError

__version__: str
