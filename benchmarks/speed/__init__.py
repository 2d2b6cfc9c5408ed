"""How fast training is: the same networks, data, batch size and epochs in Sounding, plain PyTorch and the peers.

workloads.py    the eight workloads: their data, sizes and epochs
networks.py     their networks in PyTorch, and their losses
contenders/     one file for each way of training
worker.py       one contender on one workload, in a process of its own
__main__.py     all of them, interleaved, over and over
table.py        what came out, as tables
overhead.py     microseconds of a step above the bare loop, on the smallest network
peak.py         what the matrix units give, and the operations that each network asks for
"""
