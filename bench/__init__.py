"""`make bench`: what the driver costs, side by side with yardsticks, in one run on the same machine.

Figures of two runs, or of two machines, are not comparable; the ratio of two things measured in turn within one run
is. One file for each measurement; `rounds` takes the turns, `report` prints them, `inside` runs code on a host of the
lab. Nothing here touches the machine's own network.
"""
