output "bucket" {
  description = "For `boiler-beam deploy --bucket`."
  value       = google_storage_bucket.templates.name
}

output "repository" {
  description = "For `boiler-beam deploy --repository`."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "worker" {
  description = "For `boiler-beam deploy --service_account`."
  value       = google_service_account.account["worker"].email
}

output "scheduler" {
  description = "For `boiler-beam deploy --scheduler_account`."
  value       = google_service_account.account["scheduler"].email
}

output "dead_letters" {
  description = "For `boiler-beam deploy --parameter dead_letter=...`, and the subscription to read them."
  value = {
    target = local.dead_where
    source = "pubsub:${google_pubsub_subscription.dead_letters.id}"
  }
}
