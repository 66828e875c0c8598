# What a project needs for views on Dataflow. Jobs are started when `template` names their templates.

locals {
  services = [
    "artifactregistry.googleapis.com", "cloudbuild.googleapis.com", "cloudfunctions.googleapis.com",
    "cloudscheduler.googleapis.com", "compute.googleapis.com", "dataflow.googleapis.com", "eventarc.googleapis.com",
    "firestore.googleapis.com", "monitoring.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com",
  ]
  address    = var.database == "(default)" ? "firestore:${var.project}" : "firestore:${var.project}/${var.database}"
  has_jobs   = var.template != "" ? 1 : 0
  dead_where = "pubsub:${google_pubsub_topic.dead_letters.id}"
}

resource "google_project_service" "needed" {
  for_each           = toset(local.services)
  service            = each.value
  disable_on_destroy = false
}

resource "google_storage_bucket" "templates" {
  name                        = "${var.project}-boiler-beam"
  location                    = var.region
  uniform_bucket_level_access = true
  # Dataflow's temporary files would otherwise be kept, and billed, for a week after they were deleted.
  soft_delete_policy {
    retention_duration_seconds = 0
  }
  lifecycle_rule {
    condition {
      age            = 30
      matches_prefix = ["temp/"]
    }
    action {
      type = "Delete"
    }
  }
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "boiler-beam"
  location      = var.region
  format        = "DOCKER"
  depends_on    = [google_project_service.needed]
}

resource "google_firestore_field" "tombstones" {
  database   = var.database
  collection = "_boiler_tombstones"
  field      = "expireAt"
  ttl_config {}
  index_config {}
}
