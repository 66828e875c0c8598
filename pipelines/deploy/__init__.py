"""Deploys views to Dataflow: what is sent, whether a running job can take it, and the commands that send it.

parameters      the options of a run as parameters of a template
launcher        what the template's image runs
files           Dockerfile, requirements, container specs
graph           the job of a command line, built without a cloud
compatibility   whether a running job can be updated to another one
commands        `gcloud` commands
deployment      all of it for one package of views: `boiler-beam deploy`
schedule        `boiler-beam schedule`: backfills by systemd, cron, Kubernetes or Cloud Scheduler
"""
