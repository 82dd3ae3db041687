
†
@0f4b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d
app (B2
#registry.example/library/nginx:1.25’
nginx:1.25Jsha256:1b
io.kubernetes.pod.nameweb-0b#
io.kubernetes.pod.namespaceshopb#
io.kubernetes.container.nameappj
abz/x