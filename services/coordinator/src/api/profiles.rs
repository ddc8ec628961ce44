//! ProfileService: how servers are reached.

mod connection;
mod draft;
mod message;

use mailyard_policy::{
    Reason,
    id::{self, MailboxId, Org, ProfileId},
};
use mailyard_store::{
    Error,
    people::{Profile, Settings},
    query::{Page, fold},
};
use mailyard_wire::{
    admin::{
        CreateProfileRequest, GetProfileRequest, ListProfilesRequest, ListProfilesResponse,
        TestConnectionRequest, UpdateProfileRequest, profile_service_server::ProfileService,
    },
    name,
    status::refusal,
};
use tonic::{Request, Response, Status};

pub(super) use self::message::told as held_back_of;
use super::{
    Api, cut,
    input::{check_etag, goes_again},
    new_id,
    refuse::{Told, not_found},
    with_one_more,
};
use crate::{
    filter,
    lanes::{held, lane as lane_of},
    page_token::Listing,
};
use draft::Draft;

type Wire = mailyard_wire::admin::Profile;

#[tonic::async_trait]
impl ProfileService for Api {
    type TestConnectionStream = connection::Steps;

    async fn create_profile(&self, request: Request<CreateProfileRequest>) -> Result<Response<Wire>, Status> {
        let CreateProfileRequest { parent, profile: message, set_default } = request.into_inner();
        let org = self.org(&parent).await?;
        let message = message.unwrap_or_default();
        let mut draft = Draft::new(org.clone(), ProfileId::new(new_id()?), self.now(), &self.deployment);
        draft.apply(&message, &draft::new_fields(&message));
        let (profile, secrets) = draft.checked()?;
        let profile = self.store.create_profile(&profile, &secrets, set_default).await.told()?;
        tracing::info!(profile = %profile.id, "a profile was made");
        self.tell_profile(&org, profile).await
    }

    async fn update_profile(&self, request: Request<UpdateProfileRequest>) -> Result<Response<Wire>, Status> {
        let UpdateProfileRequest { profile: message, update_mask, set_default } = request.into_inner();
        let message = message.unwrap_or_default();
        let fields = draft::changed_fields(&message, update_mask.as_ref())?;
        let mut attempt = 1;
        loop {
            let before = self.find_profile("profile.name", &message.name).await?;
            check_etag("profile.etag", &message.etag, before.revision)?;
            let (org, mut draft) = (before.org.clone(), Draft::of(before, &self.deployment));
            draft.apply(&message, &fields);
            let (profile, secrets) = draft.checked()?;
            match self.store.update_profile(&profile, &secrets, set_default).await {
                Err(error) if goes_again(&message.etag, attempt, &error) => {
                    attempt += 1;
                }
                updated => {
                    let profile = updated.told()?;
                    tracing::info!(profile = %profile.id, "a profile was changed");
                    self.leader.nudge();
                    return self.tell_profile(&org, profile).await;
                }
            }
        }
    }

    async fn get_profile(&self, request: Request<GetProfileRequest>) -> Result<Response<Wire>, Status> {
        let profile = self.find_profile("name", &request.into_inner().name).await?;
        let org = profile.org.clone();
        self.tell_profile(&org, profile).await
    }

    async fn list_profiles(
        &self,
        request: Request<ListProfilesRequest>,
    ) -> Result<Response<ListProfilesResponse>, Status> {
        let ListProfilesRequest { parent, page_size, page_token, filter } = request.into_inner();
        let org = self.org(&parent).await?;
        let listing = Listing::new("ListProfiles", &[&parent, &filter]);
        let page = listing.page(page_size, &page_token).told()?;
        let filter = filter::parse(&filter, filter::PROFILE_FIELDS).told()?;
        let mut profiles = self.store.profiles(Some(&org)).await.told()?;
        profiles.retain(|profile| filter::profile_matches(&filter, profile));
        let total_size = profiles.len() as i64;
        let mut profiles = page_of(profiles, &with_one_more(&page));
        let next_page_token =
            cut(&listing, &page, &mut profiles, |profile: &Profile| fold(&profile.display_name));
        let settings = self.store.settings(&org).await.told()?;
        let mut messages = Vec::with_capacity(profiles.len());
        for profile in profiles {
            messages.push(self.profile_message(&profile, &settings).await?);
        }
        Ok(Response::new(ListProfilesResponse { profiles: messages, next_page_token, total_size }))
    }

    async fn test_connection(
        &self,
        request: Request<TestConnectionRequest>,
    ) -> Result<Response<Self::TestConnectionStream>, Status> {
        self.connection_steps(request.into_inner()).await.map(Response::new)
    }
}

impl Api {
    /// The profile of a resource name, whose last part is an id or a display name.
    pub(super) async fn find_profile(&self, field: &str, name: &str) -> Result<Profile, Status> {
        let (org, last) = name::parse(field, name, name::PROFILES)?;
        if let Ok(id) = last.parse()
            && let Some(profile) = self.store.profile(id).await.told()?
            && profile.org == org
        {
            return Ok(profile);
        }
        let named = self.store.profile_named(&org, &last).await.told()?;
        named.ok_or_else(|| not_found(field, "profile", &last))
    }

    /// Why the servers of a profile are left alone by the lane of a mailbox, or by any lane: incoming, outgoing. A lane that cannot be
    /// understood holds nothing back: its holder forgets it.
    pub(super) async fn held_back(
        &self,
        profile: &Profile,
        mailbox: Option<MailboxId>,
    ) -> Result<[Option<Reason>; 2], Status> {
        let lanes = match mailbox {
            Some(mailbox) => {
                let lane = id::lane(mailbox, profile.lanes);
                lane..lane + 1
            }
            None => 0..profile.lanes.max(1),
        };
        let mut open = [None; 2];
        for lane in lanes {
            let kept = lane_of(&*self.store, profile, lane).await.told()?;
            if let Some(kept) = kept.ok().flatten() {
                let [incoming, outgoing] = held(&kept);
                open = [open[0].or(incoming), open[1].or(outgoing)];
            }
        }
        Ok(open)
    }

    async fn tell_profile(&self, org: &Org, profile: Profile) -> Result<Response<Wire>, Status> {
        let settings = self.store.settings(org).await.told()?;
        self.profile_message(&profile, &settings).await.map(Response::new)
    }

    async fn profile_message(&self, profile: &Profile, settings: &Settings) -> Result<Wire, Status> {
        let held_back = self.held_back(profile, None).await?;
        let last_test = match self.store.connection_test(profile.id).await {
            // Of a later version: it is of no use, and hides no profile.
            Err(Error::Corrupt(_)) => None,
            kept => kept.told()?.as_ref().map(connection::last),
        };
        let is_default = settings.default_profile == Some(profile.id);
        Ok(Wire { last_test, ..message::of(profile, is_default, held_back) })
    }
}

/// Profiles come in the order of their folded names.
fn page_of(profiles: Vec<Profile>, page: &Page) -> Vec<Profile> {
    let is_behind = |profile: &Profile| match &page.after {
        Some(after) => fold(&profile.display_name) > *after,
        None => true,
    };
    profiles.into_iter().filter(is_behind).take(page.limit as usize).collect()
}

/// A profile was asked for in two ways, or in none.
fn name_or_profile() -> Status {
    let detail = "either the name of a stored profile or a profile is expected";
    refusal(Reason::FieldInvalid, "name", detail)
}
