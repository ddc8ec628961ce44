//! Compiles the protocol files, and reads the privilege of each method out of them.
#![allow(clippy::expect_used, clippy::format_collect)]

use std::{env, fmt::Write as _, fs, path::PathBuf};

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

const ROOT: &str = "../../proto";
const FILES: &[&str] = &[
    "mailyard/admin/v1/alert_service.proto",
    "mailyard/admin/v1/mailbox_service.proto",
    "mailyard/admin/v1/operation_service.proto",
    "mailyard/admin/v1/profile_service.proto",
    "mailyard/admin/v1/settings_service.proto",
    "mailyard/admin/v1/status_service.proto",
    "mailyard/cluster/v1/session_service.proto",
    "mailyard/records/v1/email_service.proto",
];
/// Its only caller is a worker, which shows the certificate of the cluster.
const PRIVATE: &str = "mailyard.cluster.v1";

fn main() {
    println!("cargo:rerun-if-changed={ROOT}");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut compiler = protox::Compiler::new([ROOT]).expect("the protocol's folder is there");
    compiler.include_imports(true).include_source_info(true).open_files(FILES).expect("the files compile");
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set()).expect("OUT_DIR is ours");
    let pool = compiler.descriptor_pool();
    fs::write(out.join("privileges.rs"), privileges(&pool)).expect("OUT_DIR is ours");
    let secretive: Vec<MessageDescriptor> = pool.all_messages().filter(holds_secret).collect();
    fs::write(out.join("debug.rs"), secretive.iter().map(debug).collect::<String>())
        .expect("OUT_DIR is ours");
    tonic_prost_build::configure()
        .build_transport(true)
        .skip_debug(secretive.iter().map(MessageDescriptor::full_name))
        .compile_fds(compiler.file_descriptor_set())
        .expect("code is generated");
}

/// `debug_redact` of a field of the protocol.
fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options.get_field_by_name("debug_redact").is_some_and(|value| value.as_bool() == Some(true))
}

fn holds_secret(message: &MessageDescriptor) -> bool {
    message.fields().any(|field| is_secret(&field))
}

/// The `Debug` of a message that holds secrets: it tells whether they are there, and nothing else of them.
fn debug(message: &MessageDescriptor) -> String {
    let name = message.name();
    let mut fields = String::new();
    for field in message.fields() {
        let name = field.name();
        let plain = field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic());
        assert!(plain, "{name}: this does not know how to tell a oneof");
        let told = match field.kind() {
            _ if is_secret(&field) => format!("&crate::secret(self.{name}.is_empty())"),
            Kind::Enum(_) if !field.is_list() => format!("&self.{name}()"),
            _ => format!("&self.{name}"),
        };
        writeln!(fields, "            .field({name:?}, {told})").expect("a String takes it");
    }
    let package = message.package_name().split('.').nth(1).expect("mailyard, the module, the version");
    format!(
        "impl std::fmt::Debug for crate::{package}::{name} {{
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
        out.debug_struct({name:?})
{fields}            .finish()
    }}
}}
"
    )
}

fn privileges(pool: &DescriptorPool) -> String {
    let option =
        pool.get_extension_by_name("mailyard.admin.v1.privilege").expect("privilege.proto defines it");
    let mut table = String::from("[\n");
    for service in pool.services().filter(|service| service.package_name() != PRIVATE) {
        for method in service.methods() {
            let privilege = privilege(&method, &option);
            writeln!(table, "    ({:?}, Privilege::{privilege}),", path(&method)).expect("a String takes it");
        }
    }
    table + "]"
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The variant's name in generated code.
fn privilege(method: &MethodDescriptor, option: &prost_reflect::ExtensionDescriptor) -> String {
    let options = method.options();
    let number = options.get_extension(option).as_enum_number().unwrap_or_default();
    let Kind::Enum(privileges) = option.kind() else { panic!("a privilege is an enum") };
    let value = privileges.get_value(number).expect("the value is one of the enum");
    assert!(number != 0, "{} names no privilege", path(method));
    let words = value.name().trim_start_matches("PRIVILEGE_").split('_');
    words.map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect()
}
