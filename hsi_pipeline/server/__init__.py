"""OGC API - Processes on loopback: requests become runs of the command line, each in a child.

```
 request ─► app ─► requests ─► processes ─► jobs ─► child ─► confined ─► the command line
             │     (checks)    │            └─ records, in FOLDER/.hsi-pipeline
             └─ answers        └─ folder, contents: only files of one folder
```

Needs the extra `server` (pygeoapi); nothing else in the package imports it.
"""
