import os

# Before scikit-learn loads it: OpenMP's threads spin while they wait, which several test processes on few cores cannot afford.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
