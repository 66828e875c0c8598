# Each account has the roles that it needs, on the resource where it needs them, each with the reason.

resource "google_service_account" "account" {
  for_each = {
    relay     = "Publishes Firestore's changes."
    worker    = "Runs the jobs on Dataflow, and makes them."
    scheduler = "Starts the backfill."
  }
  account_id   = "${var.name}-${each.key}"
  display_name = each.value
}

data "google_project" "project" {
  project_id = var.project
}

locals {
  project_grants = {
    worker_jobs        = { account = "worker", role = "roles/dataflow.worker", why = "Takes work from Dataflow, and reports on it and its logs." }
    worker_documents   = { account = "worker", role = "roles/datastore.user", why = "Reads the snapshot, and writes rows, tombstones and control documents." }
    scheduler_launches = { account = "scheduler", role = "roles/dataflow.developer", why = "Launches the template of the backfill." }
    relay_receives     = { account = "relay", role = "roles/eventarc.eventReceiver", why = "Receives Firestore's events from Eventarc." }
  }
  # With consistency commit Dataflow follows event times by a subscription that it makes itself beside the job's own.
  tracking_grants = var.consistency == "commit" ? {
    worker_tracks = { account = "worker", role = "roles/pubsub.editor", why = "Makes the subscription by which Dataflow tracks event times." }
  } : {}
  topic_grants = {
    relay_publishes = { account = "relay", topic = google_pubsub_topic.changes.id, role = "roles/pubsub.publisher", why = "Publishes the changes." }
    worker_touches  = { account = "worker", topic = google_pubsub_topic.changes.id, role = "roles/pubsub.publisher", why = "A backfill asks the stream by its topic to write rows that differ." }
    worker_letters  = { account = "worker", topic = google_pubsub_topic.dead_letters.id, role = "roles/pubsub.publisher", why = "Publishes dead letters." }
  }
  subscription_grants = {
    worker_reads = { account = "worker", role = "roles/pubsub.subscriber", why = "Pulls and acknowledges the changes." }
    worker_looks = { account = "worker", role = "roles/pubsub.viewer", why = "The launcher looks for the subscription's topic and deadline." }
  }
  bucket_grants = {
    worker_files    = { account = "worker", role = "roles/storage.objectUser", why = "Writes the job's object and temporary files, and reads them." }
    worker_bucket   = { account = "worker", role = "roles/storage.legacyBucketReader", why = "Beam looks whether the bucket is there before it makes a job." }
    scheduler_reads = { account = "scheduler", role = "roles/storage.objectViewer", why = "Reads the template's spec for the launch." }
  }
  image_grants = {
    worker_image = { account = "worker", role = "roles/artifactregistry.reader", why = "Pulls the image of launcher and workers." }
  }
  acting_grants = {
    scheduler_acts = { account = "scheduler", role = "roles/iam.serviceAccountUser", why = "Starts jobs that run as the workers' account." }
  }
  invoking_grants = {
    relay_invokes = { account = "relay", role = "roles/run.invoker", why = "Eventarc calls the function as this account." }
  }
}

resource "google_project_iam_member" "grant" {
  for_each = merge(local.project_grants, local.tracking_grants)
  project  = var.project
  role     = each.value.role
  member   = google_service_account.account[each.value.account].member
}

resource "google_pubsub_topic_iam_member" "grant" {
  for_each = local.topic_grants
  topic    = each.value.topic
  role     = each.value.role
  member   = google_service_account.account[each.value.account].member
}

resource "google_pubsub_subscription_iam_member" "grant" {
  for_each     = local.subscription_grants
  subscription = google_pubsub_subscription.views.id
  role         = each.value.role
  member       = google_service_account.account[each.value.account].member
}

resource "google_storage_bucket_iam_member" "grant" {
  for_each = local.bucket_grants
  bucket   = google_storage_bucket.templates.name
  role     = each.value.role
  member   = google_service_account.account[each.value.account].member
}

resource "google_artifact_registry_repository_iam_member" "grant" {
  for_each   = local.image_grants
  repository = google_artifact_registry_repository.images.id
  role       = each.value.role
  member     = google_service_account.account[each.value.account].member
}

resource "google_service_account_iam_member" "grant" {
  for_each           = local.acting_grants
  service_account_id = google_service_account.account["worker"].name
  role               = each.value.role
  member             = google_service_account.account[each.value.account].member
}

resource "google_cloud_run_v2_service_iam_member" "grant" {
  for_each = local.invoking_grants
  name     = google_cloudfunctions2_function.relay.name
  location = var.region
  role     = each.value.role
  member   = google_service_account.account[each.value.account].member
}

# Pub/Sub's own account moves undelivered messages, where a subscription asks for that.
locals {
  pubsub_agent = "serviceAccount:service-${data.google_project.project.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  agent_grants = {
    agent_publishes    = { role = "roles/pubsub.publisher", why = "Pub/Sub publishes undelivered messages to their topic." }
    agent_acknowledges = { role = "roles/pubsub.subscriber", why = "Pub/Sub acknowledges a message that it moved." }
  }
}

resource "google_pubsub_topic_iam_member" "agent" {
  count  = var.max_delivery_attempts > 0 ? 1 : 0
  topic  = google_pubsub_topic.undelivered.id
  role   = local.agent_grants.agent_publishes.role
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent" {
  count        = var.max_delivery_attempts > 0 ? 1 : 0
  subscription = google_pubsub_subscription.views.id
  role         = local.agent_grants.agent_acknowledges.role
  member       = local.pubsub_agent
}
