"""The tests. All of them, and the processes that they start, compute with one thread, so that bits can be compared.

Threads that wait for each other would also crawl where other work runs beside the tests.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, which reads it then
