"""IP address management: pools, and the addresses in them, on a store. A leaf: it calls nothing but the store.

Docker asks in two steps and says only in the second one for whom: RequestPool, then CreateNetwork; RequestAddress,
then CreateEndpoint. So pools and addresses have two states:

* **reserved**: asked for. A repeated request gets the same answer; a release gives it back.
* **claimed**: held by a network or an endpoint. Only its holder lets go of it; a release by anybody else, late or
  repeated, changes nothing.

A reservation that is never claimed is found by comparison with the engine (see `reconcile.plan`), not by a timer.
The truth is the store's create-if-absent; `PoolCache` only proposes candidates. A taken address is raised as
`AddressTaken` with its row: the driver knows whether that holder is dead, and how to name it.
"""
